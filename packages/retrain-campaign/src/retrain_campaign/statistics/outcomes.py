"""The outcomes of runs, and those of two conditions matched by seed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from math import isfinite
from typing import Literal, TypeAlias

import numpy as np

from retrain_backends.errors import DataError
from retrain_backends.types import Floats
from retrain_campaign.statistics.declaration import Contrast

Status: TypeAlias = Literal["done", "failed", "pending", "stopped"]
Bounds: TypeAlias = tuple[float, float]


@dataclass(frozen=True)
class RunOutcome:
    """The outcome of a planned run: one metric, or a value for each question.

    Args:
      condition: its label.
      seed: runs of the same seed are compared with each other.
      metric: the metric of the run, such as an area under the curve.
      by_question: value of each question, such as its mean over samples and evaluations; the metric
        is then their mean.
      status: "failed" covers every run that should have an outcome and has none; "pending" runs
        are still to be done, and "stopped" ones were left out by a declared rule.
      reason: why there is no outcome.
    """

    condition: str
    seed: int
    metric: float | None = None
    by_question: Mapping[str, float] | None = None
    status: Status = "done"
    reason: str = ""

    def __post_init__(self) -> None:
        if self.metric is not None and self.by_question is not None:
            raise ValueError("give the metric of a run or its questions, not both")

    @property
    def name(self) -> str:
        """The run in messages."""
        return f"{self.condition}, seed {self.seed}"


@dataclass(frozen=True)
class UnpairedSeed:
    """A seed that is not compared.

    Args:
      seed: the seed.
      runs: those of the two conditions without outcome.
      bounds: of the difference that the seed would have had; None without bounds of the metric.
    """

    seed: int
    runs: tuple[RunOutcome, ...]
    bounds: Bounds | None

    @property
    def failed(self) -> bool:
        """Whether a run has failed, and none was stopped or is still to be done."""
        return all(run.status == "failed" for run in self.runs)

    @property
    def pending(self) -> bool:
        """Whether a run is still to be done."""
        return any(run.status == "pending" for run in self.runs)


@dataclass(frozen=True)
class Pair:
    """The outcomes of two conditions, matched by seed.

    Args:
      contrast: the two conditions.
      seeds: those that both have, in the order of the plan.
      treatment, control: metric of each seed, shape [S].
      by_question: differences, shape [S, Q]; None without values of questions.
      unpaired: all other seeds.
      questions_left_out: number of questions that some of these runs lack.
    """

    contrast: Contrast
    seeds: tuple[int, ...]
    treatment: Floats
    control: Floats
    by_question: Floats | None
    unpaired: tuple[UnpairedSeed, ...]
    questions_left_out: int

    @property
    def same_questions(self) -> bool:
        """Whether the metrics are of the same questions, as far as these are known."""
        return self.by_question is not None or not self.questions_left_out

    @property
    def differences(self) -> Floats:
        """Treatment minus control, shape [S]."""
        return self.treatment - self.control


@dataclass(frozen=True)
class Outcomes:
    """The outcomes of all planned runs of a campaign; those without outcome are among them.

    A metric that is not a finite number makes its run a failed one; a question whose value is none
    is treated as not asked.

    Args:
      runs: in the order of the plan.
      bounds: smallest and largest value of the metric; None if it has no bounds.

    Raises:
      DataError: two outcomes for one condition and seed.
    """

    runs: Sequence[RunOutcome]
    bounds: Bounds | None = (0.0, 1.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "runs", tuple(map(_checked, self.runs)))
        named = sorted((run.condition, run.seed) for run in self.runs)
        twice = [key for key, found in groupby(named) if len(list(found)) > 1]
        if twice:
            raise DataError(
                *(f"condition `{label}` has two outcomes for seed {seed}" for label, seed in twice)
            )

    @cached_property
    def conditions(self) -> tuple[str, ...]:
        """All conditions, in the order of the plan."""
        return tuple(dict.fromkeys(run.condition for run in self.runs))

    @cached_property
    def _by_condition(self) -> Mapping[str, Mapping[int, RunOutcome]]:
        found: dict[str, dict[int, RunOutcome]] = {}
        for run in self.runs:
            found.setdefault(run.condition, {})[run.seed] = run
        return found

    def of(self, condition: str) -> tuple[RunOutcome, ...]:
        """The runs of a condition."""
        return tuple(self._by_condition[condition].values())

    def metrics(self, conditions: Sequence[str]) -> tuple[tuple[int, ...], Floats]:
        """The seeds that all of these conditions have, and their metrics, shape [K, S]."""
        runs = [self._by_condition[condition] for condition in conditions]
        seeds = tuple(seed for seed in runs[0] if all(_is_done(found.get(seed)) for found in runs))
        chosen = [[found[seed] for seed in seeds] for found in runs]
        shared = _shared_questions([run for row in chosen for run in row])[0]
        values = [[_metric(run, shared) for run in row] for row in chosen]
        return seeds, np.array(values, dtype=float).reshape(len(runs), len(seeds))

    def pair(self, contrast: Contrast) -> Pair:
        """The outcomes of a contrast, matched by seed."""
        treatments, controls = (
            self._by_condition[name] for name in (contrast.treatment, contrast.control)
        )
        planned = dict.fromkeys([*controls, *treatments])
        seeds = tuple(
            s for s in planned if _is_done(treatments.get(s)) and _is_done(controls.get(s))
        )
        matched = [(treatments[seed], controls[seed]) for seed in seeds]
        shared, left_out = _shared_questions([run for pair in matched for run in pair])
        values = np.array(
            [[_metric(run, shared) for run in pair] for pair in matched], dtype=float
        ).reshape(-1, 2)
        return Pair(
            contrast=contrast,
            seeds=seeds,
            treatment=values[:, 0],
            control=values[:, 1],
            by_question=_question_differences(matched, shared),
            unpaired=tuple(self._unpaired(contrast, [s for s in planned if s not in seeds])),
            questions_left_out=left_out,
        )

    def _unpaired(self, contrast: Contrast, seeds: Sequence[int]) -> Iterator[UnpairedSeed]:
        for seed in seeds:
            runs = [
                self._by_condition[condition].get(seed)
                or RunOutcome(condition, seed, status="failed", reason="not planned")
                for condition in (contrast.treatment, contrast.control)
            ]
            without = tuple(run for run in runs if not _is_done(run))
            yield UnpairedSeed(seed, without, self._difference_bounds(*runs))

    def _difference_bounds(self, treatment: RunOutcome, control: RunOutcome) -> Bounds | None:
        if self.bounds is None:
            return None
        (low, high), (control_low, control_high) = (
            self.bounds if (value := _own_metric(run)) is None else (value, value)
            for run in (treatment, control)
        )
        return low - control_high, high - control_low


def _checked(run: RunOutcome) -> RunOutcome:
    if run.status != "done":
        return run
    if run.by_question is not None:
        finite = {name: value for name, value in run.by_question.items() if isfinite(value)}
        if finite:
            return replace(run, by_question=finite)
        reason = "none of its questions has a value"
    elif run.metric is None:
        reason = "it has no metric"
    elif isfinite(run.metric):
        return run
    else:
        reason = f"its metric is {run.metric}, not a finite number"
    return RunOutcome(run.condition, run.seed, status="failed", reason=reason)


def _is_done(run: RunOutcome | None) -> bool:
    return run is not None and run.status == "done"


def _shared_questions(runs: Sequence[RunOutcome]) -> tuple[tuple[str, ...], int]:
    """The questions that all runs have, and the number of those that only some have."""
    asked = [run.by_question for run in runs if run.by_question is not None]
    if len(asked) < len(runs) or not asked:
        return (), 0
    shared = tuple(name for name in asked[0] if all(name in values for values in asked[1:]))
    return shared, len(set().union(*asked)) - len(shared)


def _own_metric(run: RunOutcome) -> float | None:
    if run.status != "done" or run.by_question is None:
        return run.metric if run.status == "done" else None
    return float(np.mean(list(run.by_question.values())))


def _metric(run: RunOutcome, shared: Sequence[str]) -> float | None:
    if run.by_question is None or not shared:
        return _own_metric(run)
    return float(np.mean([run.by_question[name] for name in shared]))


def _question_differences(
    matched: Sequence[tuple[RunOutcome, RunOutcome]], shared: Sequence[str]
) -> Floats | None:
    if not shared:
        return None
    values = [
        [[(run.by_question or {})[name] for name in shared] for run in pair] for pair in matched
    ]
    return np.array([np.subtract(treatment, control) for treatment, control in values])
