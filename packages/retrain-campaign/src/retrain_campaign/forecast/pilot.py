"""Measures earlier runs, the pilot of a forecast: step times, tokens and log sizes."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from retrain_backends.errors import ConfigError
from retrain_backends.tracking.journal import EVALUATIONS_FILE, JOURNAL_FILES, METRICS_FILE
from retrain_backends.types import Floats
from retrain_campaign.report.status import RunStatus, StatusReport, scan
from retrain_campaign.storage.manifest import Manifest, RunEntry
from retrain_campaign.storage.manifest_reader import read_manifest

_MAX_RUNS = 64  # more would not improve a forecast


@dataclass(frozen=True)
class PilotRun:
    """Measurements of an earlier run.

    Args:
      label: of its condition; empty if it was not part of a campaign.
      step_s: seconds of each step.
      tokens: tokens sampled in each step.
      evaluation_s: seconds of each evaluation.
      overhead_s: seconds from start to end outside of steps and evaluations; None if it was not
        part of a campaign, or was started more than once.
      log_bytes: size of its logs, without the questions of evaluations.
    """

    label: str
    step_s: Floats
    tokens: Floats
    evaluation_s: Floats
    overhead_s: float | None
    log_bytes: int

    @property
    def step_s_without_first(self) -> Floats:
        """Seconds of each step but the first, which is slower; of that one if there is no other."""
        return self.step_s[1:] if self.step_s.size > 1 else self.step_s

    @property
    def first_s(self) -> float:
        """Seconds that the first step took more than the mean of the others; may be negative."""
        return float(self.step_s[0] - self.step_s_without_first.mean())


@dataclass(frozen=True)
class Pilot:
    """The measured runs, and the campaigns' own time.

    Args:
      runs: each has at least one step.
      own_s: seconds of each campaign before its first run and after its last.
    """

    runs: tuple[PilotRun, ...]
    own_s: tuple[float, ...] = ()


def measure_pilot(directory: Path) -> Pilot:
    """Measure the runs in a directory and below that have finished a step.

    At most 64 of them are measured, evenly spaced.

    Raises:
      ConfigError: there is none.
    """
    found = scan(directory)
    manifests = {campaign.path: read_manifest(campaign.path) for campaign in found.campaigns}
    started = [(run, entry) for run, entry in _runs(found, manifests) if run.steps]
    chosen = np.unique(np.linspace(0, len(started) - 1, _MAX_RUNS).round().astype(int))
    runs = [_measured(*started[index]) for index in chosen] if started else []
    measured = tuple(run for run in runs if run.step_s.size)
    if not measured:
        raise ConfigError(
            f"--from: {directory} has no run with a finished step; name the directory of a run or "
            "campaign that has finished one"
        )
    own_s = [manifest.own_time_s for manifest in manifests.values()]
    return Pilot(measured, tuple(seconds for seconds in own_s if seconds is not None))


def mean_log_bytes(pilot: Pilot | None) -> float | None:
    """Mean size of a step's logs; None without a pilot."""
    if pilot is None:
        return None
    return sum(run.log_bytes for run in pilot.runs) / sum(run.step_s.size for run in pilot.runs)


def _runs(
    found: StatusReport, manifests: Mapping[Path, Manifest]
) -> Iterator[tuple[RunStatus, RunEntry | None]]:
    yield from ((run, None) for run in found.runs)
    for campaign in found.campaigns:
        entries = manifests[campaign.path].by_name()
        yield from ((run, entries[run.name]) for run in campaign.runs)


def _measured(run: RunStatus, entry: RunEntry | None) -> PilotRun:
    step_s, tokens = _columns(run.path / METRICS_FILE, "step_time_s", "tokens_sampled")
    [evaluation_s] = _columns(run.path / EVALUATIONS_FILE, "time_s")
    logs = (run.path / name for name in JOURNAL_FILES)
    return PilotRun(
        label=run.condition,
        step_s=step_s,
        tokens=tokens,
        evaluation_s=evaluation_s,
        overhead_s=_overhead(entry, float(step_s.sum() + evaluation_s.sum())),
        log_bytes=sum(path.stat().st_size for path in logs if path.exists()),
    )


def _columns(path: Path, *keys: str) -> Floats:
    """The figures of a log, shape [keys, rows]; lines without all of them are skipped.

    Such lines are incomplete, after a kill, or were written by another program.
    """
    found = (_row(line) for line in path.read_bytes().splitlines()) if path.exists() else ()
    values = [[row.get(key) for key in keys] for row in found]
    complete = [row for row in values if all(isinstance(value, int | float) for value in row)]
    return np.array(complete, dtype=np.float64).reshape(-1, len(keys)).T


def _row(line: bytes) -> dict[str, Any]:
    # A border: the line may be incomplete, or the file another program's.
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}


def _overhead(entry: RunEntry | None, busy_s: float) -> float | None:
    if entry is None or entry.attempts != 1 or not (entry.started and entry.ended):
        return None
    duration = datetime.fromisoformat(entry.ended) - datetime.fromisoformat(entry.started)
    return max(0.0, duration.total_seconds() - busy_s)
