"""How far runs and campaigns are, from manifests and the ends of logs.

Nothing is written, no run is disturbed, and a log is never read whole.
"""

import os
import re
import socket
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import psutil
from filelock import FileLock, Timeout

from retrain_backends.errors import ConfigError
from retrain_backends.tracking.journal import EVALUATIONS_FILE, METRICS_FILE
from retrain_backends.tracking.tail import last_rows
from retrain_campaign.manifest import RunEntry, is_campaign, read_manifest

STATES = ("running", "lost", "failed", "stopped", "done", "planned")
WINDOW = 10  # steps whose mean correct rate is shown
_RUN_FILE = "config.toml"
_LOCK_FILE = ".lock"
_MAX_STEPS = re.compile(r"^max_steps = (\d+)", re.MULTILINE)
_SAME_START_S = 1.0  # two answers to when a process started differ by rounding only
_NOT_LOOKED_INTO = ("wandb", "checkpoints", "final", "emergence", "eval")


@dataclass(frozen=True)
class RunStatus:
    """How far a run is.

    Args:
      name: of the run; its directory's where it is not part of a campaign.
      path: its directory.
      state: one of `STATES`; `lost` is a run whose process is gone without a word.
      steps: that are done.
      max_steps: that there are to be; None when unknown.
      correct: mean correct rate of the last ten steps, fewer at the start; None without any.
      held_out: accuracy of the last evaluation; None without one.
      condition: its label in a campaign, else empty.
      seed: in a campaign, else None.
      reason: why it failed or stopped, where that is known.
    """

    name: str
    path: Path
    state: str
    steps: int
    max_steps: int | None
    correct: float | None
    held_out: float | None
    condition: str = ""
    seed: int | None = None
    reason: str = ""


@dataclass(frozen=True)
class CampaignStatus:
    """How far a campaign is."""

    name: str
    path: Path
    runs: tuple[RunStatus, ...]

    @property
    def counts(self) -> Mapping[str, int]:
        """Runs in each state that has any, in the order of `STATES`."""
        counts = Counter(run.state for run in self.runs)
        return {state: counts[state] for state in STATES if counts[state]}

    @property
    def steps(self) -> int:
        """Steps that are done, of all runs."""
        return sum(run.steps for run in self.runs)

    @property
    def max_steps(self) -> int:
        """Steps of all runs."""
        return sum(run.max_steps or 0 for run in self.runs)

    def by_condition(self) -> Mapping[str, Sequence[RunStatus]]:
        """The runs of each condition."""
        groups: dict[str, list[RunStatus]] = {}
        for run in self.runs:
            groups.setdefault(run.condition, []).append(run)
        return groups


@dataclass(frozen=True)
class Findings:
    """The campaigns below a directory, and the runs that belong to none; each by path.

    `problems` has a line for each campaign whose manifest cannot be read.
    """

    campaigns: tuple[CampaignStatus, ...]
    runs: tuple[RunStatus, ...]
    problems: tuple[str, ...] = ()


def scan(directory: Path) -> Findings:
    """Look at everything in a directory and below; what is in a run or a campaign is part of it.

    Raises:
      ConfigError: there is no such directory.
    """
    if not directory.is_dir():
        raise ConfigError(f"{directory}: is no directory; name one that holds runs or campaigns")
    campaigns: list[CampaignStatus] = []
    runs: list[RunStatus] = []
    problems: list[str] = []
    waiting = [directory]
    while waiting:
        here = waiting.pop()
        if is_campaign(here):
            # A border: one that is damaged must not hide the others.
            try:
                campaigns.append(campaign_status(here))
            except ConfigError as error:
                problems += error.problems
        elif (here / _RUN_FILE).is_file():
            runs.append(run_status(here))
        else:
            waiting += _below(here)
    return Findings(
        tuple(sorted(campaigns, key=lambda campaign: campaign.path)),
        tuple(sorted(runs, key=lambda run: run.path)),
        tuple(sorted(problems)),
    )


def campaign_status(directory: Path) -> CampaignStatus:
    """How far a campaign is.

    Raises:
      ConfigError: there is none, or its manifest is damaged.
    """
    manifest = read_manifest(directory)
    runs = tuple(_entry_status(directory, entry) for entry in manifest.runs)
    return CampaignStatus(manifest.name, directory, runs)


def run_status(directory: Path) -> RunStatus:
    """How far a run is that is not part of a campaign."""
    steps, correct, held_out = _progress(directory)
    max_steps = _max_steps(directory)
    state = "stopped"
    if _is_locked(directory):
        state = "running"
    elif max_steps is not None and steps >= max_steps:
        state = "done"
    return RunStatus(directory.name, directory, state, steps, max_steps, correct, held_out)


def _below(directory: Path) -> Iterator[Path]:
    with suppress(PermissionError), os.scandir(directory) as entries:
        for entry in entries:
            hidden = entry.name.startswith(".") or entry.name in _NOT_LOOKED_INTO
            if not hidden and entry.is_dir(follow_symlinks=False):
                yield Path(entry.path)


def _entry_status(directory: Path, entry: RunEntry) -> RunStatus:
    run_dir = directory / entry.run_dir
    steps, correct, held_out = (0, None, None)
    if entry.status != "planned":
        steps, correct, held_out = _progress(run_dir)
    lost = entry.status == "running" and _is_gone(entry, run_dir)
    return RunStatus(
        name=entry.name,
        path=run_dir,
        state="lost" if lost else entry.status,
        steps=steps,
        max_steps=entry.max_steps,
        correct=correct,
        held_out=held_out,
        condition=entry.condition,
        seed=entry.seed,
        reason="its process is gone" if lost else entry.reason,
    )


def _progress(run_dir: Path) -> tuple[int, float | None, float | None]:
    """Steps done, mean correct rate of the last ones, accuracy of the last evaluation."""
    rows = last_rows(run_dir / METRICS_FILE, WINDOW)
    rates = [rate for row in rows if (rate := _number(row, "correct_rate")) is not None]
    evaluations = last_rows(run_dir / EVALUATIONS_FILE, 1)
    return (
        rows[-1]["step"] + 1 if rows else 0,
        fmean(rates) if rates else None,
        _number(evaluations[0], "accuracy") if evaluations else None,
    )


def _number(row: Mapping[str, Any], key: str) -> float | None:
    """A figure; None where there is none, or where somebody else's file has something else."""
    value = row.get(key)
    return value if isinstance(value, int | float) else None


def _max_steps(run_dir: Path) -> int | None:
    text = (run_dir / _RUN_FILE).read_text(encoding="utf-8", errors="replace")
    found = _MAX_STEPS.search(text, max(0, text.find("[training]")))
    return int(found[1]) if found else None


def _is_gone(entry: RunEntry, run_dir: Path) -> bool:
    """Whether a process of this machine is no more; of others nothing is known."""
    if entry.pid is None or entry.host != socket.gethostname():
        return False
    return not _is_alive(entry.pid, entry.pid_started) and not _is_locked(run_dir)


def _is_alive(pid: int, started: float | None) -> bool:
    """Whether there is that process, and not a later one of its number."""
    try:
        found = psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return False
    return started is None or abs(found - started) < _SAME_START_S


def _is_locked(run_dir: Path) -> bool:
    """Whether a process has the run's directory for itself."""
    if not (run_dir / _LOCK_FILE).exists():
        return False
    try:
        with FileLock(run_dir / _LOCK_FILE, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # a border: a directory of others, which cannot be locked
        return False


def as_plain(findings: Findings) -> dict[str, Any]:
    """The findings as plain values, for other programs."""
    return {
        "campaigns": [
            {
                "name": campaign.name,
                "path": str(campaign.path),
                "counts": dict(campaign.counts),
                "steps": campaign.steps,
                "max_steps": campaign.max_steps,
                "runs": [_plain(run) for run in campaign.runs],
            }
            for campaign in findings.campaigns
        ],
        "runs": [_plain(run) for run in findings.runs],
        "problems": list(findings.problems),
    }


def _plain(run: RunStatus) -> dict[str, Any]:
    return {**vars(run), "path": str(run.path)}
