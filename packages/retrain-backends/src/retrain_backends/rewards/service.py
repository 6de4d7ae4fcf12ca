"""The reward of a run: scores groups as they come, and limits the share without a verdict."""

from collections.abc import Sequence
from concurrent.futures import Future, as_completed
from dataclasses import dataclass

from retrain_backends.protocols import Reward
from retrain_backends.rewards.background import BackgroundReward
from retrain_backends.rewards.failures import NOT_JUDGED, refuse_failures
from retrain_backends.rewards.guarded import GuardedReward
from retrain_backends.rewards.match import MatchReward
from retrain_backends.types import Rollout, Verdict


@dataclass(frozen=True)
class PendingVerdicts:
    """Submitted items; `futures` is None if they are scored together by `collect`."""

    items: Sequence[Rollout]
    futures: Sequence[Future[Verdict]] | None


class RewardService:
    """A reward whose failures are "no verdict"; too many of these end the run.

    Args:
      reward: the built-in ones start at once; any other gets all items of a step together.
      max_failure_rate: largest share of items without a verdict, in [0, 1].
    """

    def __init__(self, reward: Reward, max_failure_rate: float) -> None:
        early = isinstance(reward, BackgroundReward | MatchReward)
        self._early = reward if early else None
        self._guarded = GuardedReward(reward)
        self.max_failure_rate = max_failure_rate

    def submit(self, items: Sequence[Rollout]) -> PendingVerdicts:
        """Submit items; `collect` returns their verdicts."""
        return PendingVerdicts(items, self._early.submit(items) if self._early else None)

    def collect(self, batches: Sequence[PendingVerdicts]) -> list[Verdict]:
        """Wait for the verdicts on all items of the batches, in order.

        Raises:
          RunError: more than `max_failure_rate` of them have none; with reasons and examples. It is
            raised as soon as that is certain, so that an endpoint that is down is not called for
            every item.
        """
        items = [item for batch in batches for item in batch.items]
        if not items:  # no prompt was answered; a user's reward need not handle that
            return []
        futures = [future for batch in batches for future in batch.futures or ()]
        allowed = self.max_failure_rate * len(items)
        verdicts = _wait(futures, allowed) if self._early else self._guarded.score(items)
        refuse_failures(items, verdicts, allowed)
        return verdicts

    def score(self, items: Sequence[Rollout]) -> list[Verdict]:
        """One verdict for each item, in order; raises as `collect` does."""
        return self.collect([self.submit(items)])

    def close(self) -> None:
        """End processes and connections of the reward."""
        if self._early:
            self._early.close()


def _wait(futures: Sequence[Future[Verdict]], allowed: float) -> list[Verdict]:
    """All verdicts, or those known once more than `allowed` items have none."""
    failed = 0
    for future in as_completed(futures):
        failed += future.result().value is None
        if failed > allowed:
            for waiting in futures:
                waiting.cancel()
            break
    return [
        future.result() if future.done() and not future.cancelled() else NOT_JUDGED
        for future in futures
    ]
