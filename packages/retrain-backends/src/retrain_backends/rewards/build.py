"""The reward that the configuration names."""

from retrain_backends.config import RewardConfig
from retrain_backends.plugins import build
from retrain_backends.rewards.service import RewardService


def build_reward(config: RewardConfig) -> RewardService:
    """The configured reward; a failure of its code is "no verdict", never 0.

    The caller closes it, since it may start processes.

    Raises:
      ConfigError: a setting that the reward needs is missing.
      PluginError: the name leads nowhere, or to something that cannot score.
    """
    return RewardService(build("reward", config.type, config), config.max_failure_rate)
