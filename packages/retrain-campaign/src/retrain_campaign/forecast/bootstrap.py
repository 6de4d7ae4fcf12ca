"""Forecasts the wall time and tokens of a campaign by a bootstrap over earlier runs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from retrain_backends.types import Floats
from retrain_campaign.forecast.pilot import PilotRun

REPLICATES = 1000
_QUANTILES = (0.05, 0.5, 0.95)


@dataclass(frozen=True)
class RunSize:
    """Steps and evaluations of a planned run, with the label of its condition."""

    label: str
    steps: int
    evaluations: int


@dataclass(frozen=True)
class Interval:
    """Median and bounds of a 90 % interval."""

    low: float
    median: float
    high: float


@dataclass(frozen=True)
class Forecast:
    """The forecast of a campaign.

    Args:
      step_s: median seconds of a measured step.
      steps_measured: number of measured steps, in `runs_measured` runs.
      wall_s: seconds from the first start to the last end.
      tokens: tokens sampled by all runs.
      overhead_s: seconds added to each run for its start and end; None if that was not measured,
        and is not in `wall_s`.
      evaluations_known: False if evaluations are planned but none was measured; they are then not
        in `wall_s`.
    """

    step_s: float
    steps_measured: int
    runs_measured: int
    wall_s: Interval
    tokens: Interval
    overhead_s: float | None
    evaluations_known: bool


def forecast(
    pilot: Sequence[PilotRun],
    sizes: Sequence[RunSize],
    workers: int,
    stagger_s: float = 0.0,
    seed: int = 0,
) -> Forecast:
    """Forecast a campaign by a bootstrap over the steps of earlier runs.

    Each of 1,000 replicates

    1. draws, with replacement, as many steps from each pilot run as it has, and takes their mean
       `m` and standard deviation `s`;
    2. gives each planned run of `n` steps a pilot run, one of the same condition if there is any,
       and the duration `n m + sqrt(n) s z + e v + o`, z standard normal: the sum of n such steps
       by the central limit theorem, e evaluations of the mean time v, and the median overhead o;
    3. starts the planned runs in order, each on the first free worker and at least `stagger_s`
       after the previous one; the wall time is that of the last end.

    The interval is from the 5th to the 95th percentile of the replicates. It covers the variation
    between steps and between pilot runs. It does not cover what differs from the pilot: longer
    completions in later steps, another number of workers on the same cores, failed runs.

    Args:
      pilot: at least one run with at least one step.
      sizes: of the planned runs, in the order in which they start.
      workers: runs at once, at least 1.
      stagger_s: minimum time between two starts.
      seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    steps = _Resampled([run.step_s for run in pilot], rng)
    tokens = _Resampled([run.tokens for run in pilot], rng)
    overheads = [run.overhead_s for run in pilot if run.overhead_s is not None]
    overhead_s = float(np.median(overheads)) if overheads else None
    measured = [run.evaluation_s for run in pilot if run.evaluation_s.size]
    evaluation_s = float(np.concatenate(measured).mean()) if measured else 0.0
    clock = _Workers(min(workers, max(1, len(sizes))), stagger_s)
    tokens_B = np.zeros(REPLICATES)
    for size in sizes:
        chosen_B = rng.choice(_same_condition(pilot, size.label), REPLICATES)
        fixed_s = size.evaluations * evaluation_s + (overhead_s or 0.0)
        clock.run(steps.total(chosen_B, size.steps, rng) + fixed_s)
        tokens_B += tokens.total(chosen_B, size.steps, rng)
    return Forecast(
        step_s=float(np.median(np.concatenate([run.step_s for run in pilot]))),
        steps_measured=sum(run.step_s.size for run in pilot),
        runs_measured=len(pilot),
        wall_s=_interval(clock.ends_B),
        tokens=_interval(tokens_B),
        overhead_s=overhead_s,
        evaluations_known=bool(measured) or not any(size.evaluations for size in sizes),
    )


class _Resampled:
    """A figure of the pilot runs' steps, resampled in every replicate.

    Args:
      values_K: values of the figure in each pilot run.
      rng: of the draws.
    """

    def __init__(self, values_K: Sequence[Floats], rng: np.random.Generator) -> None:
        drawn_K = (
            values[rng.integers(values.size, size=(REPLICATES, values.size))] for values in values_K
        )
        pairs_K = [(drawn.mean(axis=1), drawn.std(axis=1)) for drawn in drawn_K]
        self._mean_KB = np.stack([mean_B for mean_B, _ in pairs_K])
        self._sd_KB = np.stack([sd_B for _, sd_B in pairs_K])

    def total(
        self, chosen_B: npt.NDArray[np.int64], count: int, rng: np.random.Generator
    ) -> Floats:
        """The sum over `count` steps of the chosen pilot runs, at least 0, shape [B]."""
        rows_B = np.arange(REPLICATES)
        noise_B = np.sqrt(count) * self._sd_KB[chosen_B, rows_B] * rng.standard_normal(REPLICATES)
        return np.maximum(0.0, count * self._mean_KB[chosen_B, rows_B] + noise_B)


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


def _same_condition(pilot: Sequence[PilotRun], label: str) -> list[int]:
    """Indices of the pilot runs of a condition; of all runs if it has none."""
    same = [index for index, run in enumerate(pilot) if run.label == label]
    return same or list(range(len(pilot)))


def _interval(values_B: Floats) -> Interval:
    low, median, high = (float(value) for value in np.quantile(values_B, _QUANTILES))
    return Interval(low, median, high)
