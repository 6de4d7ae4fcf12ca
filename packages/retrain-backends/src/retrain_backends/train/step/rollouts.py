"""The completions of one step, while they are sampled and judged."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from retrain_backends.protocols import PlanningDetector
from retrain_backends.train.step.clock import StepClock
from retrain_backends.train.step.samples import Judged, describe_samples
from retrain_backends.train.step.scoring import Scoring


@dataclass(frozen=True)
class Rollouts:
    """The completions of a step.

    Args:
      scoring: scores them.
      collect: returns when all are sampled; raises what sampling raises.
      detector: marks their planning tokens.
      steps_off_policy: how many updates the policy that samples them is behind.
    """

    scoring: Scoring
    collect: Callable[[], object]
    detector: PlanningDetector
    steps_off_policy: int = 0

    def parts(self, clock: StepClock) -> Iterator[Judged]:
        """The groups that were judged since the last time, whenever there are any.

        They must be sampled in another thread.
        """
        for part in self.scoring.judged(clock):
            with clock("decode"):
                samples = describe_samples(part, self.detector)
            yield Judged(samples, part.known_verdicts(), self.steps_off_policy)

    def wait(self, clock: StepClock) -> Judged:
        """All completions with their verdicts."""
        with clock("sample"):
            self.collect()
        with clock("decode"):
            samples = describe_samples(self.scoring, self.detector)
        with clock("reward"):
            return Judged(samples, self.scoring.verdicts(), self.steps_off_policy)
