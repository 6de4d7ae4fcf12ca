"""Forecasts the wall time and tokens of a campaign by simulating it from earlier runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from retrain_backends.types import Floats
from retrain_campaign.forecast.pilot import Pilot, PilotRun
from retrain_campaign.forecast.spread import REPLICATES, BetweenRuns

MACHINE_SHARE = 0.03  # standard deviation of the machine's speed between pilot and campaign
_QUANTILES = (0.05, 0.5, 0.95)
_ANY = "any condition"

Figure: TypeAlias = Literal["step_s", "tokens"]


@dataclass(frozen=True)
class RunSize:
    """Steps and evaluations of a planned run, with the label of its condition."""

    label: str
    steps: int
    evaluations: int


@dataclass(frozen=True)
class Interval:
    """Median and bounds of a 90 % prediction interval."""

    low: float
    median: float
    high: float


@dataclass(frozen=True)
class Forecast:
    """The forecast of a campaign.

    Args:
      step_s: median seconds of a measured step.
      steps_measured: number of measured steps, in `runs_measured` runs.
      wall_s: seconds from the start of the command to its end.
      tokens: tokens sampled by all runs.
      overhead_s: median seconds of a run's start and end; None if that was not measured, and is not
        in `wall_s`.
      own_s: seconds of the campaign's own start and end, before the first run and after the last;
        None if that was not measured, and is not in `wall_s`.
      evaluations_known: False if evaluations are planned but none was measured; they are then not
        in `wall_s`.
    """

    step_s: float
    steps_measured: int
    runs_measured: int
    wall_s: Interval
    tokens: Interval
    overhead_s: float | None
    own_s: float | None
    evaluations_known: bool


def forecast(
    pilot: Pilot,
    sizes: Sequence[RunSize],
    workers: int,
    stagger_s: float = 0.0,
    seed: int = 0,
) -> Forecast:
    """Forecast a campaign by simulating it 1,000 times.

    In each replicate

    1. the mean step time of each pilot run is resampled from its steps, without the first one,
       whose additional time counts as part of the start;
    2. the seconds of a step, of an evaluation, and of the start and end of a run are drawn for each
       planned run, as `BetweenRuns` describes: steps by condition, if there is a pilot run of the
       same one. The steps of a run take `n m + sqrt(n) s z`, by the central limit theorem;
    3. the planned runs start in order, each on the first free worker and at least `stagger_s`
       after the previous one; the campaign's own start and end are added;
    4. all of it is multiplied by the speed of the machine, which differs from that during the pilot
       by 3 % (one standard deviation).

    The interval is from the 5th to the 95th percentile of the replicates: it predicts one campaign,
    and is not that of a mean. It does not cover what is unlike the pilot: longer completions in
    later steps, another number of workers on the same cores, a busier machine, failed runs.

    Args:
      pilot: at least one run with at least one step.
      sizes: of the planned runs, in the order in which they start.
      workers: runs at once, at least 1.
      stagger_s: minimum time between two starts.
      seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    steps, tokens = (_Steps(pilot.runs, figure, rng) for figure in ("step_s", "tokens"))
    overheads = [run.overhead_s + run.first_s for run in pilot.runs if run.overhead_s is not None]
    evaluations = [run.evaluation_s.mean() for run in pilot.runs if run.evaluation_s.size]
    overhead, evaluation, own = (
        BetweenRuns({"": values}, rng) if values else None
        for values in (overheads, evaluations, pilot.own_s)
    )
    clock = _Workers(min(workers, max(1, len(sizes))), stagger_s)
    tokens_B = np.zeros(REPLICATES)
    for size in sizes:
        duration_B = steps.total(size) + (overhead.draw() if overhead else 0.0)
        if evaluation and size.evaluations:
            duration_B += size.evaluations * evaluation.draw()
        clock.run(duration_B)
        tokens_B += tokens.total(size)
    machine_B = np.exp(MACHINE_SHARE * rng.standard_normal(REPLICATES))
    steps_s = np.concatenate([run.step_s for run in pilot.runs])
    return Forecast(
        step_s=float(np.median(steps_s)),
        steps_measured=steps_s.size,
        runs_measured=len(pilot.runs),
        wall_s=_interval(machine_B * (clock.ends_B + (own.draw() if own else 0.0))),
        tokens=_interval(tokens_B),
        overhead_s=float(np.median(overheads)) if overheads else None,
        own_s=float(np.median(pilot.own_s)) if pilot.own_s else None,
        evaluations_known=bool(evaluations) or not any(size.evaluations for size in sizes),
    )


class _Steps:
    """A figure of each step, of planned runs by condition.

    Args:
      pilot: the measured runs.
      figure: `step_s` or `tokens`.
      rng: of the draws.
    """

    def __init__(
        self,
        pilot: Sequence[PilotRun],
        figure: Literal["step_s", "tokens"],
        rng: np.random.Generator,
    ) -> None:
        self._rng = rng
        means: dict[str, list[Floats]] = {}
        sds: dict[str, list[float]] = {}
        for run in pilot:
            values = run.step_s_without_first if figure == "step_s" else run.tokens
            drawn = values[rng.integers(values.size, size=(REPLICATES, values.size))]
            for group in (run.label, _ANY):
                means.setdefault(group, []).append(drawn.mean(axis=1))
                sds.setdefault(group, []).append(float(values.std(ddof=min(1, values.size - 1))))
        any_run = {_ANY: means.pop(_ANY)}
        self._by_label = BetweenRuns(means, rng)
        self._of_any = BetweenRuns(any_run, rng)
        self._sds = {
            group: float(np.sqrt(np.mean(np.square(found)))) for group, found in sds.items()
        }
        self._labels = frozenset(means)

    def total(self, size: RunSize) -> Floats:
        """The sum over the steps of a planned run, at least 0, shape [B]."""
        known = size.label in self._labels
        mean_B = self._by_label.draw(size.label) if known else self._of_any.draw(_ANY)
        sd = self._sds[size.label if known else _ANY]
        noise_B = np.sqrt(size.steps) * sd * self._rng.standard_normal(REPLICATES)
        return np.maximum(0.0, size.steps * mean_B + noise_B)


class _Workers:
    """The time at which each worker becomes free, in every replicate."""

    def __init__(self, workers: int, stagger_s: float) -> None:
        self._free_BW = np.zeros((REPLICATES, workers))
        self._next_start_B = np.zeros(REPLICATES)
        self._stagger_s = stagger_s
        self._started = 0
        self.ends_B = np.zeros(REPLICATES)

    def run(self, duration_B: Floats) -> None:
        """Start a run on the first free worker; at the beginning all of them are free."""
        rows_B = np.arange(REPLICATES)
        fresh = self._started < self._free_BW.shape[1]
        first_B = self._started if fresh else self._free_BW.argmin(axis=1)
        start_B = np.maximum(self._free_BW[rows_B, first_B], self._next_start_B)
        self._free_BW[rows_B, first_B] = start_B + duration_B
        self._next_start_B = start_B + self._stagger_s
        self._started += 1
        self.ends_B = np.maximum(self.ends_B, start_B + duration_B)


def _interval(values_B: Floats) -> Interval:
    low, median, high = (float(value) for value in np.quantile(values_B, _QUANTILES))
    return Interval(low, median, high)
