"""SEPA in a run: whether the learning rule uses it, and its strength at each step."""

from typing import NamedTuple

from retrain_backends.config import AlgorithmConfig, SepaConfig
from retrain_backends.train.step.modes import transform_row
from retrain_backends.train.storage.train_state import TrainState
from retrain_core import TRANSFORM_MODES, SepaSchedule


class SepaReading(NamedTuple):
    """SEPA at one step: its strength, in [0, 1], and whether its gate is open."""

    strength: float
    gate_open: bool


def read_sepa(schedule: SepaSchedule, state: TrainState) -> SepaReading:
    """SEPA at the step that follows `state`."""
    strength = schedule.sepa_lambda(state.sepa, state.steps_done)
    return SepaReading(strength, state.sepa.gate_open)


def sepa_schedule(algorithm: AlgorithmConfig, sepa: SepaConfig) -> SepaSchedule:
    """The schedule of `[sepa]`; off if the transform does not use SEPA (a plugin rule may)."""
    plugin = algorithm.algorithm_mode
    if not plugin and transform_row(algorithm.transform_mode).uses_sepa is False:
        return SepaSchedule(steps=0)
    return SepaSchedule(
        steps=sepa.steps,
        schedule=sepa.schedule,
        delay_steps=sepa.delay_steps,
        correct_rate_gate=sepa.correct_rate_gate,
    )


def idle_sepa(algorithm: AlgorithmConfig, sepa: SepaConfig, max_steps: int) -> str:
    """Why SEPA has no effect in any step, as far as is known in advance; empty if it may have."""
    mode = algorithm.transform_mode
    if algorithm.algorithm_mode or sepa.schedule != "linear":
        return ""
    if not transform_row(mode).uses_sepa:
        return ""
    schedule = SepaSchedule(steps=sepa.steps, delay_steps=sepa.delay_steps, correct_rate_gate=0.0)
    if schedule.sepa_lambda(schedule.init(), max_steps - 1) > 0:
        return ""
    same = f", and `{mode}` is `gtpo`" if mode in TRANSFORM_MODES else ""
    return (
        f"SEPA has no effect: with sepa.steps = {sepa.steps} and sepa.delay_steps = "
        f"{sepa.delay_steps} its strength is 0 in all {max_steps} steps{same}"
    )
