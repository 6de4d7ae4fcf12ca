"""Compares the conditions of a campaign over their seeds, as a table and as curves.

Only finished runs are compared; the others are listed as missing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table

from retrain_backends.dotted_names import load_object
from retrain_backends.tracking.journal import read_evaluations, read_metrics
from retrain_backends.tracking.summary import LearningCurve, learning_curve
from retrain_backends.types import Floats
from retrain_campaign.storage.manifest import Manifest, RunEntry, read_manifest

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
      missing: name and status of each other run.
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
    """The results of all conditions, in the order of the campaign."""

    name: str
    conditions: tuple[ConditionResult, ...]

    @property
    def done(self) -> int:
        """Number of runs that are compared."""
        return sum(len(result.seeds) for result in self.conditions)

    @property
    def missing(self) -> tuple[tuple[str, str], ...]:
        """Name and status of each run that is not done."""
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
    return Comparison(manifest.name, tuple(results))


def draw_campaign(comparison: Comparison, path: Path) -> bool:
    """Draw the learning curves with their bands, as a PNG; False if no run is done."""
    if not any(result.curve for result in comparison.conditions):
        return False
    # By name, so that matplotlib is imported only to draw.
    load_object("retrain_campaign.report.curves:save_curves")(comparison, path)
    return True


def comparison_table(comparison: Comparison) -> Table:
    """The comparison as a table: a row for each condition, mean ± standard deviation."""
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
        figures = [_spread(result.correct), *([_spread(result.held_out)] if evaluated else [])]
        table.add_row(result.condition, runs, *figures)
    return table


def missing_lines(comparison: Comparison, most: int = 8) -> Iterator[str]:
    """Lines that list the runs that are not in the table; none if all are done."""
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
    done = [run for run in runs if run.status == "done"]
    curves = [_curve(directory / run.run_dir) for run in done]
    return ConditionResult(
        condition=condition,
        seeds=tuple(run.seed for run in done),
        missing=tuple((run.name, run.status) for run in runs if run.status != "done"),
        correct=_over([float(curve.means[-1]) for curve in curves if curve.means.size]),
        held_out=_over([curve.held_out[-1].accuracy for curve in curves if curve.held_out]),
        curve=_band(curves),
        window=max((curve.window for curve in curves), default=1),
    )


def _curve(run_dir: Path) -> LearningCurve:
    return learning_curve(read_metrics(run_dir), read_evaluations(run_dir))


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


def _spread(spread: Spread) -> str:
    if spread.mean is None:
        return "-"
    deviation = "    -" if spread.sd is None else f"{100 * spread.sd:5.1f}"
    return f"{100 * spread.mean:5.1f} ± {deviation} %"
