"""The `match` reward: the boxed answer is the reference, character for character."""

from collections.abc import Sequence

from retrain_backends.boxed import extract_boxed
from retrain_backends.types import Rollout, Verdict


class MatchReward:
    """1.0 when the boxed answer equals the trimmed reference, else 0.0; no answer is 0.0."""

    def score(self, items: Sequence[Rollout]) -> list[Verdict]:
        """One verdict for each item, in order."""
        return [
            Verdict(float(extract_boxed(item.completion) == item.example.reference.strip()))
            for item in items
        ]
