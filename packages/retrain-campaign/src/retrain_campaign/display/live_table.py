"""The live table of a campaign: a row for each run, active and failed ones first, and totals."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from types import TracebackType
from typing import Any, Self

from rich.cells import cell_len, set_cell_size
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from retrain_backends.tracking.console import print_lines
from retrain_backends.tracking.journal import METRICS_FILE
from retrain_backends.tracking.tail import last_rows
from retrain_campaign.display.lines import LineDisplay, ending_line
from retrain_campaign.display.protocol import Display
from retrain_campaign.storage.manifest import RunEntry
from retrain_campaign.storage.manifest_store import ManifestStore

_ORDER = ("running", "failed", "stopped", "done", "planned")
_WORDS = {"planned": "waiting"}
_STYLES = {"running": "cyan", "failed": "red", "stopped": "yellow", "done": "green"}
_COLUMNS = ("run", "state", "", "step", "correct", "left")
_GAP = 2  # between columns, in characters
_MIN_NAME_WIDTH = 16
_OTHER_LINES = 8  # of the terminal, around the rows
_BAR_WIDTH = 12
_NEWEST_WEIGHT = 0.2  # of the newest step in the moving average of the step time


@dataclass
class RunProgress:
    """Progress of a run: steps done, correct rate, and moving average of the step time."""

    steps: int = 0
    rate: float | None = None
    step_s: float | None = None

    def update(self, rows: list[dict[str, Any]]) -> None:
        """Add the newest rows of the run's metrics."""
        for row in rows:
            if row["step"] + 1 == self.steps:
                continue
            self.steps, self.rate = row["step"] + 1, row.get("running_correct_rate")
            newest = row["step_time_s"]
            before = newest if self.step_s is None else self.step_s
            self.step_s = (1 - _NEWEST_WEIGHT) * before + _NEWEST_WEIGHT * newest


class LiveTable:
    """A table that redraws itself; messages are printed above it."""

    def __init__(self, console: Console, store: ManifestStore) -> None:
        self._console = console
        self._store = store
        self._progress = {entry.name: RunProgress() for entry in store.entries}
        self._started = monotonic()
        for entry in store.entries:
            self._read_progress(entry)
        self._steps_before = self._steps_done()
        self._live = Live(
            get_renderable=self.render, console=console, auto_refresh=False, transient=True
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.stop()

    def say(self, line: str) -> None:
        """Print the line above the table."""
        print_lines(self._console, line)

    def changed(self, entry: RunEntry) -> None:
        """Print a failed or stopped run above the table; other changes show in the table."""
        self._read_progress(entry)
        if entry.status in ("failed", "stopped"):
            self.say(ending_line(entry))

    def refresh(self) -> None:
        """Read the progress of the running runs, and redraw."""
        for entry in self._store.entries:
            if entry.status == "running":
                self._read_progress(entry)
        self._live.refresh()

    def render(self) -> RenderableType:
        """The current table."""
        table = Table(box=None, padding=(0, _GAP, 0, 0), header_style="bold")
        for column in _COLUMNS[:3]:
            table.add_column(column, no_wrap=True)
        for column in _COLUMNS[3:]:
            table.add_column(column, justify="right", no_wrap=True)
        most = max(3, self._console.height - _OTHER_LINES)
        entries = sorted(self._store.entries, key=lambda entry: _ORDER.index(entry.status))
        rows = [(entry, list(self._cells(entry))) for entry in entries[:most]]
        width = self._name_width([cells for _, cells in rows])
        for entry, cells in rows:
            style = "dim" if entry.status == "planned" else ""
            table.add_row(Text(_shortened(entry, width), style=style), *cells)
        hidden = len(entries) - most
        more = [Text(f"… and {hidden} more", style="dim")] if hidden > 0 else []
        return Group(table, *more, Text(self._totals(), style="bold"))

    def _name_width(self, rows: list[list[Text]]) -> int:
        """The width that the other columns leave for the names of runs."""
        columns = zip(_COLUMNS[1:], *rows, strict=True)
        widths = (max(len(title), *(c.cell_len for c in cells)) for title, *cells in columns)
        others = sum(width + _GAP for width in widths)
        return max(_MIN_NAME_WIDTH, self._console.width - others - _GAP)

    def _read_progress(self, entry: RunEntry) -> None:
        if entry.status != "planned":
            run_dir = self._store.run_dir(entry.name)
            self._progress[entry.name].update(last_rows(run_dir / METRICS_FILE, 1))

    def _cells(self, entry: RunEntry) -> Iterator[Text]:
        """The cells of a run, without its name."""
        progress = self._progress[entry.name]
        style = _STYLES.get(entry.status, "dim")
        again = f" ({entry.attempts})" if entry.attempts > 1 else ""
        yield Text(_WORDS.get(entry.status, entry.status) + again, style=style)
        filled = round(_BAR_WIDTH * min(1.0, progress.steps / entry.max_steps))
        yield Text.assemble(("━" * filled, style), ("━" * (_BAR_WIDTH - filled), "bright_black"))
        yield Text(f"{progress.steps}/{entry.max_steps}")
        yield Text("-" if progress.rate is None else f"{progress.rate:.1%}")
        yield Text(_duration(self._left_s(entry)) if entry.status == "running" else "")

    def _left_s(self, entry: RunEntry) -> float | None:
        progress = self._progress[entry.name]
        if progress.step_s is None:
            return None
        return progress.step_s * max(0, entry.max_steps - progress.steps)

    def _totals(self) -> str:
        counts = Counter(entry.status for entry in self._store.entries)
        words = [f"{counts[s]} {_WORDS.get(s, s)}" for s in _ORDER if counts[s]]
        done, total = self._steps_done(), sum(entry.max_steps for entry in self._store.entries)
        left = ""
        if (here := done - self._steps_before) > 0 and counts["running"]:
            seconds = (monotonic() - self._started) / here * (total - done)
            left = f", about {_duration(seconds)} left"
        return f"{', '.join(words)}; {done:,} of {total:,} steps{left}"

    def _steps_done(self) -> int:
        return sum(progress.steps for progress in self._progress.values())


def display_for(console: Console, store: ManifestStore) -> Display:
    """The display for a console: a live table on a terminal, plain lines elsewhere."""
    live = console.is_terminal and not console.is_dumb_terminal
    return LiveTable(console, store) if live else LineDisplay(console, store)


def _shortened(entry: RunEntry, width: int) -> str:
    """The run's name, shortened in the middle if it is too long, so that the seed is shown."""
    if cell_len(entry.name) <= width:
        return entry.name
    tail = max((width - 1) // 2, len(f"_s{entry.seed}"))
    return f"{set_cell_size(entry.name, max(1, width - 1 - tail))}…{entry.name[-tail:]}"


def _duration(seconds: float | None) -> str:
    return "-" if seconds is None else str(timedelta(seconds=round(seconds)))
