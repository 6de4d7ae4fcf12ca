"""The summary and the learning curve of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retrain_backends.tracking.journal import Row
from retrain_backends.types import Floats


@dataclass(frozen=True)
class HeldOut:
    """One evaluation: the accuracy on the held-out questions after `step` training steps."""

    step: int
    accuracy: float
    questions: int
    time_s: float


@dataclass(frozen=True)
class RunSummary:
    """The result of one run.

    `first_rate` and `last_rate` are the mean correct rates of the first and the last `window`
    steps that scored anything, None if no step did. `adapter` is the PEFT directory of the
    trained adapter (or a service's path), None if nothing was trained. `held_out` are
    the evaluations, in order.
    """

    run_dir: Path
    adapter: str | None
    condition: str
    seed: int
    steps: int
    window: int
    first_rate: float | None
    last_rate: float | None
    tokens_sampled: int
    time_s: float
    held_out: Sequence[HeldOut] = ()


@dataclass(frozen=True)
class LearningCurve:
    """Correct rate by step: raw, and the mean over the last `window` steps (fewer at the start).

    `held_out` is the accuracy on held-out questions, where the run has evaluated.
    """

    steps: Floats
    rates: Floats
    means: Floats
    window: int
    held_out: Sequence[HeldOut] = ()


def learning_curve(rows: Sequence[Row], evaluations: Sequence[Row] = ()) -> LearningCurve:
    """The learning curve in the metrics rows; steps in which nothing was scored are left out."""
    scored = [(row["step"], row["correct_rate"]) for row in rows if row["correct_rate"] is not None]
    steps, rates = np.array(scored, dtype=np.float64).reshape(-1, 2).T
    window = window_of(len(rates))
    means = running_mean(rates, window)
    return LearningCurve(steps, rates, means, window, held_out_curve(evaluations))


def held_out_curve(evaluations: Sequence[Mapping[str, Any]]) -> list[HeldOut]:
    """The evaluations in the rows of `eval.jsonl`, without those in which nothing was scored."""
    return [
        HeldOut(row["step"], row["accuracy"], row["num_questions"], row["time_s"])
        for row in evaluations
        if row["accuracy"] is not None
    ]


def window_of(steps: int) -> int:
    """How many steps a mean of the curve covers: a fifth of the run, from 1 to 10."""
    return min(10, max(1, steps // 5))


def running_mean(values: Floats, window: int) -> Floats:
    """Mean of each value and the `window - 1` before it (of those there are)."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - window)
    return (sums[ends] - sums[starts]) / (ends - starts)
