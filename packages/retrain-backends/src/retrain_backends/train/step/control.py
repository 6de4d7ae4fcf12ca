"""What a run carries from step to step, and what steers it: the strength of SEPA."""

from typing import NamedTuple

from retrain_backends.config import RunConfig
from retrain_backends.train.step.modes import transform_row
from retrain_backends.train.storage.train_state import TrainState
from retrain_backends.types import StepResult
from retrain_core import (
    TRANSFORM_MODES,
    EntropyStats,
    RunningCount,
    SepaSchedule,
    StepBookkeeping,
)


class SepaReading(NamedTuple):
    """SEPA as a step uses it: its strength, in [0, 1], and whether its gate is open."""

    strength: float
    gate_open: bool


def idle_sepa(config: RunConfig) -> str:
    """Why SEPA will not act in any step, as far as that is known before; empty if it may act."""
    mode, sepa, steps = config.algorithm.transform_mode, config.sepa, config.training.max_steps
    if config.algorithm.algorithm_mode or sepa.schedule != "linear":
        return ""
    if not transform_row(mode).uses_sepa:
        return ""
    schedule = SepaSchedule(steps=sepa.steps, delay_steps=sepa.delay_steps, correct_rate_gate=0.0)
    if schedule.sepa_lambda(schedule.init(), steps - 1) > 0:
        return ""
    same = f", and `{mode}` is `gtpo`" if mode in TRANSFORM_MODES else ""
    return (
        f"SEPA will not act: with sepa.steps = {sepa.steps} and sepa.delay_steps = "
        f"{sepa.delay_steps} its strength is 0 in all {steps} steps{same}"
    )


class Control:
    """Reads the strength of SEPA before a step and moves the state on after it."""

    def __init__(self, sepa: SepaSchedule) -> None:
        self._sepa = sepa

    @classmethod
    def from_config(cls, config: RunConfig) -> "Control":
        """SEPA as `[sepa]` says, or off when the transform has no use for it."""
        algorithm = config.algorithm
        own = algorithm.algorithm_mode  # a plugin, which may use it
        if not own and transform_row(algorithm.transform_mode).uses_sepa is False:
            return cls(SepaSchedule(steps=0))
        return cls(
            SepaSchedule(
                steps=config.sepa.steps,
                schedule=config.sepa.schedule,
                delay_steps=config.sepa.delay_steps,
                correct_rate_gate=config.sepa.correct_rate_gate,
            )
        )

    def start(self) -> TrainState:
        """The state before the first step."""
        return TrainState(0, 0, RunningCount(), self._sepa.init())

    def reading(self, state: TrainState) -> SepaReading:
        """What the next step uses."""
        strength = self._sepa.sepa_lambda(state.sepa, state.steps_done)
        return SepaReading(strength, state.sepa.gate_open)

    def advance(
        self,
        state: TrainState,
        prompts_drawn: int,
        counts: StepBookkeeping,
        entropy: EntropyStats,
        result: StepResult | None,
    ) -> TrainState:
        """The state after a step.

        Args:
          state: before the step.
          prompts_drawn: prompts that the step drew.
          counts: what the step earned; a step that scored nothing leaves SEPA's gate alone.
          entropy: uncertainty of all its tokens, pooled.
          result: what the optimiser reported, None when nothing was trained.
        """
        correct_rate = counts.correct_rate if counts.scored_count else None
        return TrainState(
            steps_done=state.steps_done + 1,
            prompts_drawn=state.prompts_drawn + prompts_drawn,
            running=counts.running,
            sepa=self._sepa.update(state.sepa, correct_rate, entropy),
            nonfinite_steps=state.nonfinite_steps + (result is not None and not result.is_finite),
            updates=state.updates + (result is not None and result.is_finite),
        )
