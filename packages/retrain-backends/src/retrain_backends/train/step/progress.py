"""Updates the state of a run after each step."""

from dataclasses import dataclass

from retrain_backends.train.step.credit import Credit
from retrain_backends.train.storage.train_state import TrainState
from retrain_backends.types import StepResult
from retrain_core import RunningCount, SepaSchedule


@dataclass(frozen=True)
class Progress:
    """Counts the steps of a run, and updates its SEPA schedule."""

    sepa: SepaSchedule

    def start(self) -> TrainState:
        """The state before the first step."""
        return TrainState(0, 0, RunningCount(), self.sepa.init())

    def advance(self, state: TrainState, credit: Credit, result: StepResult | None) -> TrainState:
        """The state after a step.

        Args:
          state: before the step.
          credit: of the step; without a verdict, SEPA's gate does not change.
          result: of the optimiser step; None if nothing was trained.
        """
        counts = credit.counts
        correct_rate = counts.correct_rate if counts.scored_count else None
        return TrainState(
            steps_done=state.steps_done + 1,
            prompts_drawn=state.prompts_drawn + credit.num_prompts,
            running=counts.running,
            sepa=self.sepa.update(state.sepa, correct_rate, credit.entropy),
            nonfinite_steps=state.nonfinite_steps + (result is not None and not result.is_finite),
            updates=state.updates + (result is not None and result.is_finite),
        )
