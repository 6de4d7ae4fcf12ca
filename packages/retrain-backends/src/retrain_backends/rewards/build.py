"""The reward that the configuration names."""

from retrain_backends.config import RewardConfig
from retrain_backends.plugins import build
from retrain_backends.rewards.service import RewardService


def build_reward(config: RewardConfig) -> RewardService:
    """The configured reward, guarded so that a failure of its code is "no verdict", never 0.

    Close it in the end: it may have started processes.

    Raises:
      ConfigError: a setting that the reward needs is missing.
      PluginError: the name leads nowhere, or to something that cannot score.
    """
    return RewardService(build("reward", config.type, config), config.max_failure_rate)
