"""The `match` reward: the boxed answer is the reference, character for character."""

from collections.abc import Sequence
from concurrent.futures import Future

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

    def submit(self, items: Sequence[Rollout]) -> list[Future[Verdict]]:
        """The verdicts as futures, which are done."""
        futures: list[Future[Verdict]] = [Future() for _ in items]
        for future, verdict in zip(futures, self.score(items), strict=True):
            future.set_result(verdict)
        return futures

    def close(self) -> None:
        """Nothing to free."""
