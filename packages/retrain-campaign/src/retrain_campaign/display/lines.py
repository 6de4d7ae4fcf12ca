"""Plain output of a campaign: a line for each event, and the failures at the end."""

import os
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.table import Table
from rich.text import Text

from retrain_backends.tracking.console import print_lines
from retrain_campaign.storage.manifest import RunEntry
from retrain_campaign.storage.manifest_store import ManifestStore


class PipeSafeConsole(Console):
    """Prints nothing more once its pipe is closed, as by `| head`, so that the runs continue."""

    def on_broken_pipe(self) -> None:
        """Stop printing, and redirect stdout so that flushing it at exit does not fail."""
        self.quiet = True
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
        os.close(devnull)


class LineDisplay:
    """Prints one line for each event, for logs and pipes."""

    def __init__(self, console: Console, store: ManifestStore) -> None:
        self._console = console
        self._store = store

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing to close: lines are printed at once."""

    def say(self, line: str) -> None:
        """Print the line."""
        print_lines(self._console, line)

    def changed(self, entry: RunEntry) -> None:
        """Print the new status of the run."""
        if entry.status == "running":
            self.say(starting_line(entry))
            return
        entries = self._store.entries
        ended = sum(other.status in ("done", "failed") for other in entries)
        self.say(f"[{ended}/{len(entries)}] {ending_line(entry)}")

    def refresh(self) -> None:
        """Print nothing: only events are shown."""


def starting_line(entry: RunEntry) -> str:
    """The start of a run, on one line."""
    again = f", attempt {entry.attempts}" if entry.attempts > 1 else ""
    where = f"process {entry.pid}" if entry.pid else f"job {entry.job}"
    gpus = f", GPU {','.join(entry.gpus)}" if entry.gpus else ""
    return f"{entry.name}: started{again}, {where}{gpus}"


def ending_line(entry: RunEntry) -> str:
    """The end of a run, on one line."""
    line = f"{entry.name}: {entry.status}"
    if entry.status == "done":
        return ", ".join([line, *_figures(entry), *_duration(entry)])
    return f"{line}: {entry.reason}" if entry.reason else line


def print_failures(console: Console, entries: list[RunEntry]) -> None:
    """Print the runs that failed or were stopped, with their last lines of output."""
    if not entries:
        return
    if not console.is_terminal:
        for entry in entries:
            print_lines(console, f"{entry.status}: {entry.name}: {entry.reason}")
        return
    table = Table(title="Not finished", title_justify="left")
    for column in ("run", "state", "attempts", "reason"):
        table.add_column(column, overflow="fold")
    for entry in entries:
        table.add_row(entry.name, entry.status, str(entry.attempts), Text(entry.reason))
    console.print(table)


def _figures(entry: RunEntry) -> Iterator[str]:
    figures = entry.final_metrics or {}
    if isinstance(step := figures.get("step"), int):
        yield f"{step + 1} steps"
    if isinstance(rate := figures.get("running_correct_rate"), float):
        yield f"correct {rate:.1%}"
    if isinstance(accuracy := figures.get("eval_accuracy"), float):
        yield f"held-out {accuracy:.1%}"


def _duration(entry: RunEntry) -> Iterator[str]:
    if entry.started and entry.ended:
        duration = datetime.fromisoformat(entry.ended) - datetime.fromisoformat(entry.started)
        yield f"in {timedelta(seconds=round(duration.total_seconds()))}"
