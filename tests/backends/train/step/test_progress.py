import numpy as np
import pytest

from retrain_backends.train.step.credit import Credit
from retrain_backends.train.step.progress import Progress
from retrain_backends.train.step.sepa import read_sepa
from retrain_backends.types import StepResult, TrainBatch
from retrain_core import (
    EntropyStats,
    RunningCount,
    SepaSchedule,
    TokenAdvantages,
    step_bookkeeping,
)

BATCH = TrainBatch(
    prompts=[],
    group_offsets_g=np.zeros(1, np.int64),
    token_offsets_n=np.zeros(1, np.int64),
    tokens_t=np.empty(0, np.int64),
    logprobs_t=np.empty(0),
    advantages_t=np.empty(0),
    trained_t=np.empty(0, np.bool_),
    temperature=1.0,
    step=0,
    seed=0,
)


def credit(rewards, running=RunningCount(), schedule=SepaSchedule(steps=0)):  # noqa: B008
    """Credit of one group of two prompts' worth, of which only the counts matter."""
    counts = step_bookkeeping(
        np.array(rewards),
        np.array([0, len(rewards)]),
        np.ones(len(rewards), np.int64),
        9,
        np.ones(len(rewards), np.bool_),
        running,
    )
    nothing = np.empty(0)
    advantages = TokenAdvantages(
        values=nothing,
        entropy_stats=EntropyStats(),
        episode=nothing,
        informative=np.empty(0, np.bool_),
        metrics={},
    )
    sepa = read_sepa(schedule, Progress(schedule).start())
    return Credit(2, counts, EntropyStats(), sepa, advantages, BATCH)


def result(loss):
    return StepResult(loss, 1, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, {})


def test_a_gate_opens_when_a_step_earns_enough():
    schedule = SepaSchedule(steps=2, delay_steps=0, correct_rate_gate=0.3)
    progress = Progress(schedule)
    state, readings = progress.start(), []
    for _ in range(3):
        readings.append(tuple(read_sepa(schedule, state)))
        state = progress.advance(state, credit([1.0, 1.0, 0.0, 0.0, 0.0, 0.0]), None)
    assert readings == [(0.0, False), (0.5, True), (1.0, True)]
    assert (state.steps_done, state.prompts_drawn, state.running.scored) == (3, 6, 6)


@pytest.mark.parametrize(
    ("loss", "updates", "nonfinite"), [(None, 0, 0), (0.5, 1, 0), (float("nan"), 0, 1)]
)
def test_only_finite_steps_are_updates(loss, updates, nonfinite):
    progress = Progress(SepaSchedule(steps=0))
    trained = None if loss is None else result(loss)
    state = progress.advance(progress.start(), credit([1.0, 0.0]), trained)
    assert (state.updates, state.nonfinite_steps) == (updates, nonfinite)
