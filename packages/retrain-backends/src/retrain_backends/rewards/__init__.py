"""Rewards for completions.

Names are loaded on first use, so that worker processes start quickly.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from retrain_backends.boxed import extract_boxed
    from retrain_backends.rewards.build import build_reward
    from retrain_backends.rewards.service import RewardService

_MODULES = {
    "RewardService": "retrain_backends.rewards.service",
    "build_reward": "retrain_backends.rewards.build",
    "extract_boxed": "retrain_backends.boxed",
}

__all__ = ["RewardService", "build_reward", "extract_boxed"]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value
