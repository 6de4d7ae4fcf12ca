"""Rewards: what a completion is worth.

Names are loaded on first use, so that the processes which judge start quickly.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from retrain_backends.boxed import extract_boxed
    from retrain_backends.rewards.build import build_reward
    from retrain_backends.rewards.service import RewardService

_HOMES = {
    "RewardService": "retrain_backends.rewards.service",
    "build_reward": "retrain_backends.rewards.build",
    "extract_boxed": "retrain_backends.boxed",
}

__all__ = ["RewardService", "build_reward", "extract_boxed"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
