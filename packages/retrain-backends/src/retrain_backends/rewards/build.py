"""The reward that the configuration names."""

from retrain_backends.config import RewardConfig
from retrain_backends.plugins import build
from retrain_backends.protocols import Reward
from retrain_backends.rewards.guarded import GuardedReward


def build_reward(config: RewardConfig) -> Reward:
    """The configured reward, guarded so that a failure of its code is "no verdict", never 0.

    Raises:
      NotAvailableError: a reward of a later version.
      PluginError: the name leads nowhere, or to something that cannot score.
    """
    return GuardedReward(build("reward", config.type, config))
