"""What a campaign shows without a terminal, a line an event, and what it shows in the end."""

import os
import sys
from collections.abc import Iterator
from datetime import datetime
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.table import Table
from rich.text import Text

from retrain_backends.tracking.console import print_lines
from retrain_campaign.ledger import Ledger
from retrain_campaign.manifest import RunEntry


class LastingConsole(Console):
    """Goes on in silence when nobody reads any more, as after `| head`: the runs count for more."""

    def on_broken_pipe(self) -> None:
        """Show nothing from now on, and have nothing to flush at the end."""
        self.quiet = True
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
        os.close(devnull)


class PlainView:
    """One line an event, for logs and pipes."""

    def __init__(self, console: Console, ledger: Ledger) -> None:
        self._console = console
        self._ledger = ledger

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing to close: every line is out."""

    def say(self, line: str) -> None:
        """Print the line."""
        print_lines(self._console, line)

    def changed(self, entry: RunEntry) -> None:
        """Print what has become of the run."""
        if entry.status == "running":
            self.say(starting_line(entry))
            return
        entries = self._ledger.entries
        ended = sum(other.status in ("done", "failed") for other in entries)
        self.say(f"[{ended}/{len(entries)}] {ending_line(entry)}")

    def refresh(self) -> None:
        """Print nothing: only events are told."""


def starting_line(entry: RunEntry) -> str:
    """That a run has been started, and as what."""
    again = f", attempt {entry.attempts}" if entry.attempts > 1 else ""
    where = f"process {entry.pid}" if entry.pid else f"job {entry.job}"
    gpus = f", GPU {','.join(entry.gpus)}" if entry.gpus else ""
    return f"{entry.name}: started{again}, {where}{gpus}"


def ending_line(entry: RunEntry) -> str:
    """How a run has ended, on one line."""
    line = f"{entry.name}: {entry.status}"
    if entry.status == "done":
        return ", ".join([line, *_figures(entry), *_taken(entry)])
    return f"{line}: {entry.reason}" if entry.reason else line


def print_failures(console: Console, entries: list[RunEntry]) -> None:
    """A table of the runs that have failed or were stopped, with the last lines they said."""
    if not entries:
        return
    if not console.is_terminal:
        for entry in entries:
            print_lines(console, f"{entry.status}: {entry.name}: {entry.reason}")
        return
    table = Table(title="Not finished", title_justify="left")
    for column in ("run", "state", "attempts", "why"):
        table.add_column(column, overflow="fold")
    for entry in entries:
        table.add_row(entry.name, entry.status, str(entry.attempts), Text(entry.reason))
    console.print(table)


def _figures(entry: RunEntry) -> Iterator[str]:
    found = entry.final_metrics or {}
    if isinstance(step := found.get("step"), int):
        yield f"{step + 1} steps"
    if isinstance(rate := found.get("running_correct_rate"), float):
        yield f"correct {rate:.1%}"
    if isinstance(accuracy := found.get("eval_accuracy"), float):
        yield f"held-out {accuracy:.1%}"


def _taken(entry: RunEntry) -> Iterator[str]:
    if entry.started and entry.ended:
        took = datetime.fromisoformat(entry.ended) - datetime.fromisoformat(entry.started)
        yield f"in {took}"
