"""Limits the failure of a reward to the completions that it fails on."""

import math
from collections.abc import Sequence
from dataclasses import replace

from retrain_backends.errors import describe
from retrain_backends.protocols import Reward
from retrain_backends.types import Rollout, Verdict


class GuardedReward:
    """A reward whose exceptions and non-finite values become "no verdict" with the reason.

    If scoring several items together raises, each is scored alone, so that only those that fail by
    themselves have no verdict.
    """

    def __init__(self, reward: Reward) -> None:
        self._reward = reward

    def score(self, items: Sequence[Rollout]) -> list[Verdict]:
        """One verdict for each item, in order."""
        # A border: the reward may be the user's own, and may call `sys.exit`.
        try:
            verdicts = self._reward.score(items)
            if len(verdicts) != len(items):
                raise ValueError(f"{len(verdicts)} verdicts for {len(items)} completions")
            return [_finite(verdict) for verdict in verdicts]
        except (Exception, SystemExit) as error:  # noqa: BLE001
            if len(items) == 1:
                return [Verdict(None, describe(error))]
            return [verdict for item in items for verdict in self.score([item])]


def _finite(verdict: Verdict) -> Verdict:
    if verdict.value is None:
        return verdict
    if not math.isfinite(verdict.value):
        return Verdict(None, f"the reward is {verdict.value}")
    return replace(verdict, value=float(verdict.value))  # a numpy number is not JSON
