"""Compares the conditions of a campaign over their seeds, as a table and as curves.

Only finished runs are compared; the others are listed as missing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table

from retrain_backends.dotted_names import load_object
from retrain_backends.errors import describe
from retrain_backends.tracking.journal import METRICS_FILE, read_evaluations, read_metrics
from retrain_backends.tracking.summary import LearningCurve, learning_curve
from retrain_backends.types import Floats
from retrain_campaign.storage.manifest import Manifest, RunEntry
from retrain_campaign.storage.manifest_reader import read_manifest
from retrain_campaign.storage.run_results import damaged_logs
from retrain_campaign.storage.run_state import missing_results

CURVES_FILE = "campaign.png"


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of a figure over the seeds of a condition.

    Args:
      count: number of runs that have the figure.
      mean: None if no run has it.
      sd: sample standard deviation (n - 1); None with fewer than two runs.
    """

    count: int
    mean: float | None
    sd: float | None


@dataclass(frozen=True)
class Band:
    """Mean and standard deviation over the seeds of a condition, at each step.

    `sds` is 0 where only one run has a value. All shapes are [steps].
    """

    steps: Floats
    means: Floats
    sds: Floats


@dataclass(frozen=True)
class ConditionResult:
    """The results of a condition.

    Args:
      condition: its label.
      seeds: the seeds whose runs are done.
      missing: name of each other run, with its status or with what its results lack.
      correct: mean correct rate of a run's last window, as in the run's own summary.
      held_out: accuracy of the last evaluation.
      curve: running mean of the correct rate by step; None if no run is done.
      window: number of steps of that running mean, and of `correct`.
    """

    condition: str
    seeds: tuple[int, ...]
    missing: tuple[tuple[str, str], ...]
    correct: Spread
    held_out: Spread
    curve: Band | None
    window: int


@dataclass(frozen=True)
class Comparison:
    """The results of all conditions, in the order of the campaign.

    `problems` has a line for each damaged file of the manifest.
    """

    name: str
    conditions: tuple[ConditionResult, ...]
    problems: tuple[str, ...] = ()

    @property
    def done(self) -> int:
        """Number of runs that are compared."""
        return sum(len(result.seeds) for result in self.conditions)

    @property
    def missing(self) -> tuple[tuple[str, str], ...]:
        """Name of each run that is not compared, with the reason."""
        return tuple(run for result in self.conditions for run in result.missing)


def compare(campaign_dir: Path) -> Comparison:
    """Compare the conditions of a campaign, by the runs that are done.

    Raises:
      ConfigError: the directory is not a campaign, or its manifest is damaged.
    """
    manifest = read_manifest(campaign_dir)
    results = (
        _result(campaign_dir, condition, runs) for condition, runs in _by_condition(manifest)
    )
    return Comparison(manifest.name, tuple(results), tuple(manifest.problems))


def draw_campaign(comparison: Comparison, path: Path) -> bool:
    """Draw the learning curves with their bands, as a PNG; False if no run is done."""
    if not any(result.curve for result in comparison.conditions):
        return False
    # By name, so that matplotlib is imported only to draw.
    load_object("retrain_campaign.report.curves:save_curves")(comparison, path)
    return True


def comparison_table(comparison: Comparison) -> Table:
    """The comparison as a table: a row for each condition, mean ± standard deviation.

    A figure that some of the compared runs lack is followed by the number of those that have it.
    """
    evaluated = any(result.held_out.count for result in comparison.conditions)
    windows = sorted({result.window for result in comparison.conditions if result.seeds})
    span = " to ".join(dict.fromkeys(map(str, windows[:1] + windows[-1:])))
    window = "last step" if span == "1" else f"last {span} steps"
    table = Table(box=None, padding=(0, 2), pad_edge=False, header_style="bold")
    table.add_column("condition", overflow="fold")
    table.add_column("runs", justify="right")
    table.add_column(f"correct, {window}" if windows else "correct", justify="right")
    if evaluated:
        table.add_column("held-out, at the end", justify="right")
    for result in comparison.conditions:
        total = len(result.seeds) + len(result.missing)
        runs = f"{total}" if not result.missing else f"{len(result.seeds)} of {total}"
        spreads = [result.correct, *([result.held_out] if evaluated else [])]
        figures = (_spread(spread, len(result.seeds)) for spread in spreads)
        table.add_row(result.condition, runs, *figures)
    return table


def missing_lines(comparison: Comparison, most: int = 8) -> Iterator[str]:
    """Lines on what is missing or damaged; none if the table has all runs."""
    yield from comparison.problems
    missing = comparison.missing
    if not missing:
        return
    total = comparison.done + len(missing)
    yield f"{comparison.done} of {total} runs are done and compared; missing:"
    for name, status in missing[:most]:
        yield f"  {name} ({status})"
    if len(missing) > most:
        yield f"  and {len(missing) - most} more"


def _by_condition(manifest: Manifest) -> Iterator[tuple[str, list[RunEntry]]]:
    for condition in dict.fromkeys([*manifest.conditions, *(r.condition for r in manifest.runs)]):
        if runs := [run for run in manifest.runs if run.condition == condition]:
            yield condition, runs


def _result(directory: Path, condition: str, runs: Sequence[RunEntry]) -> ConditionResult:
    found = [(run, _curve(directory, run)) for run in runs]
    curves = [curve for _, curve in found if isinstance(curve, LearningCurve)]
    return ConditionResult(
        condition=condition,
        seeds=tuple(run.seed for run, curve in found if isinstance(curve, LearningCurve)),
        missing=tuple((run.name, curve) for run, curve in found if isinstance(curve, str)),
        correct=_over([float(curve.means[-1]) for curve in curves if curve.means.size]),
        held_out=_over([curve.held_out[-1].accuracy for curve in curves if curve.held_out]),
        curve=_band(curves),
        window=max((curve.window for curve in curves), default=1),
    )


def _curve(directory: Path, run: RunEntry) -> LearningCurve | str:
    """The learning curve of a run that is done; of any other, why it is not compared."""
    if run.status != "done":
        return run.status
    run_dir = directory / run.run_dir
    missing = missing_results(run_dir, run.max_steps, run.adapter)
    if missing or (missing := damaged_logs(run_dir)):
        return f"was done, but {missing}"
    # A border: the logs may have been damaged since.
    try:
        rows = read_metrics(run_dir)
        curve = learning_curve(rows, read_evaluations(run_dir))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return f"was done, but its logs cannot be read ({describe(error, 80)})"
    if len(rows) < run.max_steps:
        return f"was done, but {METRICS_FILE} has {len(rows):,} of {run.max_steps:,} steps"
    return curve


def _over(values: Sequence[float]) -> Spread:
    return Spread(
        count=len(values),
        mean=float(np.mean(values)) if values else None,
        sd=float(np.std(values, ddof=1)) if len(values) > 1 else None,
    )


def _band(curves: Sequence[LearningCurve]) -> Band | None:
    """Mean and sample standard deviation, at each step, of the runs with a value there."""
    curves = [curve for curve in curves if curve.steps.size]
    if not curves:
        return None
    steps = np.unique(np.concatenate([curve.steps for curve in curves]))
    values_RS = np.full((len(curves), len(steps)), np.nan)
    for row, curve in zip(values_RS, curves, strict=True):
        row[np.searchsorted(steps, curve.steps)] = curve.means
    counts = (~np.isnan(values_RS)).sum(axis=0)
    means = np.nansum(values_RS, axis=0) / counts
    squares = np.nansum((values_RS - means) ** 2, axis=0)
    return Band(steps, means, np.sqrt(squares / np.maximum(counts - 1, 1)))


def _spread(spread: Spread, runs: int) -> str:
    if spread.mean is None:
        return "-"
    deviation = "    -" if spread.sd is None else f"{100 * spread.sd:5.1f}"
    partly = "" if spread.count == runs else f" ({spread.count} of {runs})"
    return f"{100 * spread.mean:5.1f} ± {deviation} %{partly}"
