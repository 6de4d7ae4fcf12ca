"""What earlier runs tell about those to come: how long steps took, how much they wrote."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from retrain_backends.errors import ConfigError
from retrain_backends.tracking.journal import JOURNAL_FILES, read_evaluations, read_metrics
from retrain_backends.types import Floats
from retrain_campaign.manifest import RunEntry, read_manifest
from retrain_campaign.status import RunStatus, scan

_MOST_RUNS = 64  # more would not make a forecast better


@dataclass(frozen=True)
class PilotRun:
    """An earlier run.

    Args:
      label: its condition in a campaign, else empty.
      step_s: seconds of each step.
      tokens: sampled in each step.
      evaluation_s: seconds of each evaluation.
      overhead_s: seconds from its start to its end that no step and no evaluation took; None
        where no campaign has noted them, or the run was started more than once.
      log_bytes: of its logs, without evaluations' questions.
    """

    label: str
    step_s: Floats
    tokens: Floats
    evaluation_s: Floats
    overhead_s: float | None
    log_bytes: int


def measure_pilot(directory: Path) -> tuple[PilotRun, ...]:
    """The runs in a directory and below that have finished a step; of very many, some.

    Raises:
      ConfigError: there is none.
    """
    found = list(_runs(directory))
    begun = [(run, entry) for run, entry in found if run.steps]
    if not begun:
        raise ConfigError(
            f"--from: {directory} has no run with a finished step; name the directory of a run or "
            "campaign that has begun"
        )
    chosen = np.unique(np.linspace(0, len(begun) - 1, _MOST_RUNS).round().astype(int))
    return tuple(_measured(*begun[index]) for index in chosen)


def _runs(directory: Path) -> Iterator[tuple[RunStatus, RunEntry | None]]:
    found = scan(directory)
    yield from ((run, None) for run in found.runs)
    for campaign in found.campaigns:
        entries: Mapping[str, RunEntry] = read_manifest(campaign.path).by_name()
        yield from ((run, entries[run.name]) for run in campaign.runs)


def _measured(run: RunStatus, entry: RunEntry | None) -> PilotRun:
    rows = read_metrics(run.path)
    step_s = np.array([row["step_time_s"] for row in rows], dtype=np.float64)
    evaluation_s = np.array([row["time_s"] for row in read_evaluations(run.path)], dtype=np.float64)
    logs = (run.path / name for name in JOURNAL_FILES)
    return PilotRun(
        label=run.condition,
        step_s=step_s,
        tokens=np.array([row["tokens_sampled"] for row in rows], dtype=np.float64),
        evaluation_s=evaluation_s,
        overhead_s=_overhead(entry, float(step_s.sum() + evaluation_s.sum())),
        log_bytes=sum(path.stat().st_size for path in logs if path.exists()),
    )


def _overhead(entry: RunEntry | None, busy_s: float) -> float | None:
    if entry is None or entry.attempts != 1 or not (entry.started and entry.ended):
        return None
    took = datetime.fromisoformat(entry.ended) - datetime.fromisoformat(entry.started)
    return max(0.0, took.total_seconds() - busy_s)
