"""What earlier runs tell about those to come: how long steps took, how much they wrote."""

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
    begun = [(run, entry) for run, entry in _runs(directory) if run.steps]
    chosen = np.unique(np.linspace(0, len(begun) - 1, _MOST_RUNS).round().astype(int))
    found = [_measured(*begun[index]) for index in chosen] if begun else []
    measured = tuple(run for run in found if run.step_s.size)
    if not measured:
        raise ConfigError(
            f"--from: {directory} has no run with a finished step; name the directory of a run or "
            "campaign that has begun"
        )
    return measured


def _runs(directory: Path) -> Iterator[tuple[RunStatus, RunEntry | None]]:
    found = scan(directory)
    yield from ((run, None) for run in found.runs)
    for campaign in found.campaigns:
        entries: Mapping[str, RunEntry] = read_manifest(campaign.path).by_name()
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
    """The figures of a log, a row for each key; lines that have not all of them do not count.

    Such a line is the last one of a run that was killed, or somebody else's.
    """
    found = (_row(line) for line in path.read_bytes().splitlines()) if path.exists() else ()
    values = [[row.get(key) for key in keys] for row in found]
    whole = [row for row in values if all(isinstance(value, int | float) for value in row)]
    return np.array(whole, dtype=np.float64).reshape(-1, len(keys)).T


def _row(line: bytes) -> dict[str, Any]:
    # A border: damage, or somebody else's file.
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}


def _overhead(entry: RunEntry | None, busy_s: float) -> float | None:
    if entry is None or entry.attempts != 1 or not (entry.started and entry.ended):
        return None
    took = datetime.fromisoformat(entry.ended) - datetime.fromisoformat(entry.started)
    return max(0.0, took.total_seconds() - busy_s)
