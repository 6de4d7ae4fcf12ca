"""Rewards: what a completion is worth."""

from retrain_backends.boxed import extract_boxed
from retrain_backends.rewards.build import build_reward

__all__ = ["build_reward", "extract_boxed"]
