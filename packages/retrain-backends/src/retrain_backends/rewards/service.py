"""The reward of a run: begins to judge groups as they come, and watches over the verdicts."""

from collections.abc import Sequence
from concurrent.futures import Future, as_completed
from dataclasses import dataclass

from retrain_backends.protocols import Reward
from retrain_backends.rewards.background import BackgroundReward
from retrain_backends.rewards.failures import NOT_JUDGED, refuse_failures
from retrain_backends.rewards.guarded import GuardedReward
from retrain_backends.types import Rollout, Verdict


@dataclass(frozen=True)
class Ticket:
    """Items that were handed in; `futures` is None when they are judged at the end, together."""

    items: Sequence[Rollout]
    futures: Sequence[Future[Verdict]] | None


class RewardService:
    """A reward, guarded: what fails has no verdict, and too many without one end the run.

    Args:
      reward: a `BackgroundReward` begins at once; any other gets all items of a step together.
      max_failure_rate: largest share of items without a verdict, in [0, 1].
    """

    def __init__(self, reward: Reward, max_failure_rate: float) -> None:
        self._background = reward if isinstance(reward, BackgroundReward) else None
        self._guarded = GuardedReward(reward)
        self._max_failure_rate = max_failure_rate

    def submit(self, items: Sequence[Rollout]) -> Ticket:
        """Hand items in; the ticket is for `collect`."""
        return Ticket(items, self._background.submit(items) if self._background else None)

    def collect(self, tickets: Sequence[Ticket]) -> list[Verdict]:
        """Wait for the verdicts on all items of the tickets, in order.

        Raises:
          RunError: more than `max_failure_rate` of them have none; says why, with examples. It
            comes as soon as that is sure, so that a judge who is down is not asked to the end.
        """
        items = [item for ticket in tickets for item in ticket.items]
        if not items:  # a service answered no prompt; a user's reward need not be ready for that
            return []
        futures = [future for ticket in tickets for future in ticket.futures or ()]
        allowed = self._max_failure_rate * len(items)
        verdicts = _wait(futures, allowed) if self._background else self._guarded.score(items)
        refuse_failures(items, verdicts, allowed)
        return verdicts

    def score(self, items: Sequence[Rollout]) -> list[Verdict]:
        """One verdict for each item, in order; raises as `collect` does."""
        return self.collect([self.submit(items)])

    def close(self) -> None:
        """End the processes and connections that judge."""
        if self._background:
            self._background.close()


def _wait(futures: Sequence[Future[Verdict]], allowed: float) -> list[Verdict]:
    """All verdicts, or those there are when more than `allowed` items have none."""
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
