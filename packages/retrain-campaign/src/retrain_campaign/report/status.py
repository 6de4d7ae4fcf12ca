"""The status of runs and campaigns, read from manifests and the last rows of logs.

Nothing is written, and running runs are not affected.
"""

import os
import re
import socket
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil

import retrain_campaign
from retrain_backends.errors import ConfigError
from retrain_backends.tracking.journal import EVALUATIONS_FILE, METRICS_FILE
from retrain_backends.tracking.tail import last_rows
from retrain_campaign.report.waits import longer_wait
from retrain_campaign.storage.campaign_directory import is_campaign
from retrain_campaign.storage.run_state import is_locked, missing_results

if TYPE_CHECKING:
    from retrain_campaign.storage.manifest import RunEntry

STATES = ("running", "lost", "failed", "stopped", "done", "planned")
WINDOW = 10  # steps over which the correct rate is averaged
_RUN_FILE = "config.toml"
_MAX_STEPS = re.compile(r"^max_steps = (\d+)", re.MULTILINE)
_START_TOLERANCE_S = 1.0  # the reported start times of one process differ by rounding
_SKIPPED = ("wandb", "checkpoints", "final", "emergence", "eval")


@dataclass(frozen=True)
class RunStatus:
    """The status of a run.

    Args:
      name: of the run; that of its directory if it is not part of a campaign.
      path: its directory.
      state: one of `STATES`; `lost` is a run whose process is gone but has reported no end, or one
        that was done and whose results are gone.
      steps: steps done.
      max_steps: steps in total; None if unknown.
      correct: mean correct rate of up to `WINDOW` last steps; None without any.
      held_out: accuracy of the last evaluation; None without one.
      condition: label of its condition; empty if it is not part of a campaign.
      seed: its seed; None if it is not part of a campaign.
      reason: why it failed or stopped, if that is known.
      waits: which side waits for the other for most of the time, and what changes it; see
        `longer_wait`.
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
    waits: str = ""


@dataclass(frozen=True)
class CampaignStatus:
    """The status of a campaign; `problems` has a line for each damaged file of its manifest."""

    name: str
    path: Path
    runs: tuple[RunStatus, ...]
    problems: tuple[str, ...] = ()

    @property
    def counts(self) -> Mapping[str, int]:
        """Number of runs in each state that occurs, in the order of `STATES`."""
        counts = Counter(run.state for run in self.runs)
        return {state: counts[state] for state in STATES if counts[state]}

    @property
    def steps(self) -> int:
        """Steps done by all runs."""
        return sum(run.steps for run in self.runs)

    @property
    def max_steps(self) -> int:
        """Steps of all runs in total."""
        return sum(run.max_steps or 0 for run in self.runs)

    def by_condition(self) -> Mapping[str, Sequence[RunStatus]]:
        """The runs of each condition."""
        groups: dict[str, list[RunStatus]] = {}
        for run in self.runs:
            groups.setdefault(run.condition, []).append(run)
        return groups


@dataclass(frozen=True)
class StatusReport:
    """The campaigns below a directory, and the runs outside of campaigns; each sorted by path.

    `problems` has a line for each manifest that is damaged, and for each file or directory that
    cannot be read. If nothing is left of a manifest, the runs are listed as single ones.
    """

    campaigns: tuple[CampaignStatus, ...]
    runs: tuple[RunStatus, ...]
    problems: tuple[str, ...] = ()


def scan(directory: Path) -> StatusReport:
    """The status of all runs and campaigns in a directory and below.

    Raises:
      ConfigError: there is no such directory.
    """
    if not directory.is_dir():
        raise ConfigError(
            f"{directory}: is not a directory; name one that contains runs or campaigns"
        )
    campaigns: list[CampaignStatus] = []
    runs: list[RunStatus] = []
    problems: list[str] = []
    pending = [directory]
    while pending:
        current = pending.pop()
        if is_campaign(current):
            # A border: a damaged campaign must not hide the others.
            try:
                campaigns.append(campaign_status(current))
                problems += campaigns[-1].problems
            except ConfigError as error:
                problems += error.problems
                pending += _subdirectories(current, problems)
        elif (current / _RUN_FILE).is_file():
            runs.append(run_status(current))
        else:
            pending += _subdirectories(current, problems)
    return StatusReport(
        tuple(sorted(campaigns, key=lambda campaign: campaign.path)),
        tuple(sorted(runs, key=lambda run: run.path)),
        tuple(sorted(problems)),
    )


def campaign_status(directory: Path) -> CampaignStatus:
    """The status of a campaign.

    Raises:
      ConfigError: the directory is not a campaign, or its manifest is damaged.
    """
    # Through the package, which loads pydantic and the models of a manifest only now.
    manifest = retrain_campaign.read_manifest(directory)
    runs = tuple(_entry_status(directory, entry) for entry in manifest.runs)
    return CampaignStatus(manifest.name, directory, runs, tuple(manifest.problems))


def run_status(directory: Path) -> RunStatus:
    """The status of a run that is not part of a campaign."""
    progress = _progress(directory)
    max_steps = _max_steps(directory)
    state = "stopped"
    if is_locked(directory):
        state = "running"
    elif max_steps is not None and progress.steps >= max_steps:
        state = "done"
    return RunStatus(directory.name, directory, state, max_steps=max_steps, **progress._asdict())


def _subdirectories(directory: Path, problems: list[str]) -> Iterator[Path]:
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                hidden = entry.name.startswith(".") or entry.name in _SKIPPED
                if not hidden and entry.is_dir(follow_symlinks=False):
                    yield Path(entry.path)
    except OSError as error:  # a border: it belongs to another user, or was just deleted
        problems.append(f"{directory}: cannot be read ({error.strerror})")


def _entry_status(directory: Path, entry: "RunEntry") -> RunStatus:
    run_dir = directory / entry.run_dir
    progress = _Progress() if entry.status == "planned" else _progress(run_dir)
    reason = _reason_lost(entry, run_dir)
    return RunStatus(
        name=entry.name,
        path=run_dir,
        state="lost" if reason else entry.status,
        max_steps=entry.max_steps,
        condition=entry.condition,
        seed=entry.seed,
        reason=reason or entry.reason,
        **progress._asdict(),
    )


def _reason_lost(entry: "RunEntry", run_dir: Path) -> str:
    """Why the status in the manifest does not hold any more; empty if it does."""
    if entry.status == "done":
        missing = missing_results(run_dir, entry.max_steps, entry.adapter)
        return f"was done, but {missing}" if missing else ""
    gone = entry.status == "running" and _is_gone(entry, run_dir)
    return "its process is gone" if gone else ""


class _Progress(NamedTuple):
    """What the logs of a run say; as in `RunStatus`."""

    steps: int = 0
    correct: float | None = None
    held_out: float | None = None
    waits: str = ""


def _progress(run_dir: Path) -> _Progress:
    rows = last_rows(run_dir / METRICS_FILE, WINDOW)
    rates = [rate for row in rows if (rate := _number(row, "correct_rate")) is not None]
    evaluations = last_rows(run_dir / EVALUATIONS_FILE, 1)
    return _Progress(
        rows[-1]["step"] + 1 if rows else 0,
        fmean(rates) if rates else None,
        _number(evaluations[0], "accuracy") if evaluations else None,
        longer_wait(rows, run_dir / _RUN_FILE),
    )


def _number(row: Mapping[str, Any], key: str) -> float | None:
    """A figure of a row; None if it is missing or not a number."""
    value = row.get(key)
    return value if isinstance(value, int | float) else None


def _max_steps(run_dir: Path) -> int | None:
    text = (run_dir / _RUN_FILE).read_text(encoding="utf-8", errors="replace")
    found = _MAX_STEPS.search(text, max(0, text.find("[training]")))
    return int(found[1]) if found else None


def _is_gone(entry: "RunEntry", run_dir: Path) -> bool:
    """Whether the process is known to have ended; False if it runs on another machine."""
    if entry.pid is None or entry.host != socket.gethostname():
        return False
    return not _is_alive(entry.pid, entry.pid_started) and not is_locked(run_dir)


def _is_alive(pid: int, started: float | None) -> bool:
    """Whether the process is running, and not a later one with the same pid."""
    try:
        found = psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return False
    return started is None or abs(found - started) < _START_TOLERANCE_S


def as_plain(report: StatusReport) -> dict[str, Any]:
    """The report as plain values, for `--json`."""
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
            for campaign in report.campaigns
        ],
        "runs": [_plain(run) for run in report.runs],
        "problems": list(report.problems),
    }


def _plain(run: RunStatus) -> dict[str, Any]:
    return {**vars(run), "path": str(run.path)}
