"""The console of a run: a live view on a terminal, otherwise one line a step."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from retrain_backends.tracking.journal import Reader, Row
from retrain_backends.tracking.summary import HeldOut, LearningCurve, RunSummary, learning_curve
from retrain_backends.tracking.terminal_plot import HEIGHT, draw_curve

# The plot with its axis, the progress bar, the figures of step and evaluation, a spare line.
PLOT_LINES = HEIGHT + 6


class StepView(Reader, AbstractContextManager["StepView"], Protocol):
    """Shows the rows of a run as they are written."""

    def announce(self, what: str) -> None:
        """Show what is being done until the next evaluation is shown."""
        ...


class PlainView:
    """One line a step, for logs and pipes."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._total = total

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Do nothing: every line has been printed."""

    def step(self, row: Row) -> None:
        """Print the step's line."""
        _print_line(self._console, f"step {_done(row)}/{self._total}  {figures(row)}")

    def evaluation(self, row: Row) -> None:
        """Print the evaluation's line."""
        _print_line(self._console, f"eval {row['step']}/{self._total}  {evaluation_figures(row)}")

    def announce(self, what: str) -> None:
        """Print nothing: only finished steps and evaluations get a line."""


class LiveView:
    """A progress bar, the figures of the last step and the growing learning curve."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._total = total
        self._rows: list[Row] = []
        self._evaluations: list[Row] = []
        self._announced = ""
        self._progress = Progress(
            TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._progress.add_task("training", total=total)
        self._live = Live(
            get_renderable=self._render, console=console, refresh_per_second=2, transient=True
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

    def step(self, row: Row) -> None:
        """Add the step to the view, which is redrawn twice a second."""
        self._rows.append(row)
        self._progress.update(self._task, completed=_done(row))

    def evaluation(self, row: Row) -> None:
        """Add the evaluation to the view, in place of what was announced."""
        self._evaluations.append(row)
        self._announced = ""

    def announce(self, what: str) -> None:
        """Show what is being done, until an evaluation is shown."""
        self._announced = what

    def _render(self) -> RenderableType:
        parts: list[RenderableType] = [self._progress]
        if self._rows:
            parts.append(Text(figures(self._rows[-1]), no_wrap=True, overflow="ellipsis"))
        if held_out := self._announced or self._last_evaluation():
            parts.append(Text(held_out, no_wrap=True, overflow="ellipsis"))
        if self._rows and self._console.height > PLOT_LINES:
            curve = learning_curve(self._rows, self._evaluations)
            parts.extend(_plots(self._console, curve, self._total))
        return Group(*parts)

    def _last_evaluation(self) -> str:
        if not self._evaluations:
            return ""
        row = self._evaluations[-1]
        return f"eval {row['step']}/{self._total}  {evaluation_figures(row)}"


def step_view(console: Console, total: int) -> StepView:
    """The view that suits the console: live on a terminal, plain lines elsewhere."""
    live = console.is_terminal and not console.is_dumb_terminal
    return LiveView(console, total) if live else PlainView(console, total)


def figures(row: Row) -> str:
    """The main figures of a step on one line; `-` for what is unknown."""
    return "  ".join(
        [
            f"correct {_number(row['correct_rate'], '.3f')}",
            f"running {_number(row['running_correct_rate'], '.3f')}",
            f"reward {_number(row['mean_reward'], '.3f')}",
            f"loss {_number(row['loss'], '+.4f')}",
            f"{_number(row['tokens_per_second'], ',.0f')} tokens/s",
            f"{_number(row['step_time_s'], '.2f')} s",
            *_counted(row, {"no_verdict_count": "no verdict", "failed_prompts": "no answer"}),
        ]
    )


def evaluation_figures(row: Row) -> str:
    """The figures of an evaluation on one line; pass@1 is the accuracy and is not repeated."""
    passed = {key: row[key] for key in row if key.startswith("pass_at_") and key != "pass_at_1"}
    return "  ".join(
        [
            f"correct {_number(row['accuracy'], '.3f')}",
            *(f"pass@{key[8:]} {_number(value, '.3f')}" for key, value in passed.items()),
            f"reward {_number(row['mean_reward'], '.3f')}",
            f"{row['num_questions']} questions",
            f"{_number(row['time_s'], '.2f')} s",
            *_counted(row, {"no_verdict_count": "no verdict", "failed_questions": "no answer"}),
        ]
    )


def _counted(row: Row, names: Mapping[str, str]) -> Iterator[str]:
    """The counts of failures that are not 0, by name."""
    return (f"{name} {row[key]}" for key, name in names.items() if row.get(key))


def print_lines(console: Console, *lines: str) -> None:
    """Print lines as they are: no wrapping, no markup."""
    for line in lines:
        _print_line(console, line)


def print_summary(console: Console, summary: RunSummary, curve: LearningCurve) -> None:
    """Print the end of a run: the learning curve and a table of results and files."""
    for plot in _plots(console, curve, summary.steps):
        console.print(plot)
    if not console.is_terminal:
        for label, value in _facts(summary):
            _print_line(console, f"{label}: {value}")
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for label, value in _facts(summary):
        table.add_row(label, Text(value))
    console.print(table)


def _facts(summary: RunSummary) -> Iterator[tuple[str, str]]:
    yield "run", f"{summary.condition}, seed {summary.seed}"
    done = f"{summary.steps} steps, {summary.tokens_sampled:,} tokens, {summary.time_s:.1f} s"
    asked_s = sum(evaluation.time_s for evaluation in summary.held_out)
    yield "done", f"{done}, evaluations {asked_s:.1f} s" if summary.held_out else done
    yield "correct", _progress_made(summary)
    if summary.held_out:
        yield "held-out", _held_out(summary.held_out)
    yield "adapter", summary.adapter or "none: nothing was trained"
    yield "logs", str(summary.run_dir)


def _progress_made(summary: RunSummary) -> str:
    if summary.first_rate is None or summary.last_rate is None:
        return "no step had a completion with a verdict"
    window = f"{summary.window} steps" if summary.window > 1 else "step"
    return (
        f"{summary.first_rate:.1%} in the first {window}, {summary.last_rate:.1%} in the last "
        f"({100 * (summary.last_rate - summary.first_rate):+.1f} points)"
    )


def _held_out(evaluations: Sequence[HeldOut]) -> str:
    first, last = evaluations[0], evaluations[-1]
    start = "before" if first.step == 0 else f"after {first.step} steps"
    if len(evaluations) == 1:
        return f"{first.accuracy:.1%} {start} ({first.questions} questions)"
    return (
        f"{first.accuracy:.1%} {start}, {last.accuracy:.1%} after {last.step} steps "
        f"({100 * (last.accuracy - first.accuracy):+.1f} points, {last.questions} questions)"
    )


def _plots(console: Console, curve: LearningCurve, steps: int) -> list[Text]:
    """The learning curve, if it has two steps and the console can show braille dots.

    The axis ends at the last step; with evaluations one later, at the last evaluation.
    """
    if len(curve.steps) < 2 or not console.encoding.startswith("utf"):
        return []
    last_step = steps if curve.held_out else steps - 1
    return [draw_curve(curve, last_step=last_step, width=min(60, max(10, console.width - 6)))]


def _done(row: Row) -> int:
    step = row["step"]
    assert isinstance(step, int)
    return step + 1


def _number(value: object, form: str) -> str:
    return format(value, form) if isinstance(value, int | float) else "-"


def _print_line(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)
