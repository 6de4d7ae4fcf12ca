"""Examines the logs of a run that is resumed, and removes the rows that will be repeated."""

import json
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from retrain_backends.atomic import flush
from retrain_backends.tracking.journal import (
    EVALUATIONS_FILE,
    GENERATIONS_FILE,
    JOURNAL_FILES,
    METRICS_FILE,
    STEPS_FILE,
)
from retrain_backends.tracking.log_digests import Mark, intact_marks, mark_of
from retrain_backends.tracking.tail import last_rows

# Of each row, among others: what a run and its reports read, and what tells the logs apart.
_KEYS = {
    METRICS_FILE: {"step", "correct_rate", "tokens_sampled", "step_time_s"},
    STEPS_FILE: {"step", "mean_reward", "total_count"},
    GENERATIONS_FILE: {"step", "prompt", "completion"},
    EVALUATIONS_FILE: {"step", "accuracy", "mean_reward", "num_questions", "time_s"},
}
_NAMED_LINES = 3


def damage_of(directory: Path, name: str, marks: Sequence[Mark]) -> str:
    """How a log differs from what was written up to its last mark; empty if it does not.

    A change lies between two marks, so the lines are a range. Lines after the first changed range
    cannot be compared.
    """
    if not marks:
        return ""
    try:
        with (directory / name).open("rb") as file:
            intact = intact_marks(file, marks)
            if intact == len(marks):
                appended = name not in JOURNAL_FILES and file.read(1)
                return f"{name} has more than its {_lines(marks[-1].lines)}" if appended else ""
            file.seek(0)
            lines, unreadable = _survey(name, file, marks[-1].lines)
    except FileNotFoundError:
        return f"{name} is missing ({_lines(marks[-1].lines)})"
    except OSError as error:
        return f"{name} cannot be read ({error.strerror})"
    start = marks[intact - 1].lines + 1 if intact else 1
    found = _difference(lines, (start, marks[intact].lines), marks[-1].lines)
    return f"{name} {'; '.join((found, *_not_rows(unreadable)))}"


def covered_steps(directory: Path) -> int:
    """Steps whose rows are in `metrics.jsonl`, from the first step to the first missing row."""
    covered = 0
    try:
        with (directory / METRICS_FILE).open("rb") as file:
            for line in file:
                if not line.endswith(b"\n") or _step_of(METRICS_FILE, line) != covered:
                    break
                covered += 1
    except OSError:
        return 0
    return covered


def steps_logged(directory: Path) -> int:
    """The number of steps up to the last row of `metrics.jsonl`."""
    return sum(row["step"] + 1 for row in last_rows(directory / METRICS_FILE, 1))


def rewind_logs(
    directory: Path,
    logs: Mapping[str, Sequence[Mark]],
    damaged: Collection[str],
    steps_done: int,
) -> dict[str, list[Mark]]:
    """Remove the rows after a checkpoint; of a damaged log, lines that are no rows as well.

    The latter are kept in a file beside the log, `<log>.damaged`.

    Args:
      directory: of the run.
      logs: the marks of each log up to the checkpoint; one without a mark is emptied.
      damaged: the logs that differ from their marks.
      steps_done: steps before the checkpoint.

    Returns:
      The marks of the logs as they are now.
    """
    for name in JOURNAL_FILES:
        path, marks = directory / name, logs.get(name, ())
        if not path.is_file():
            continue
        if name in damaged:
            _keep_rows(name, path, steps_done)
        else:
            os.truncate(path, marks[-1].bytes if marks else 0)
    renewed = {name: mark_of(directory / name) for name in damaged}
    return {name: list(marks) for name, marks in logs.items()} | renewed


def _keep_rows(name: str, path: Path, steps_done: int) -> None:
    last_step = steps_done if name == EVALUATIONS_FILE else steps_done - 1
    partial = path.with_name(f".{path.name}.partial")
    unreadable = []
    with path.open("rb") as file, partial.open("wb") as kept:
        for line in file:
            step = _step_of(name, line)
            if step is None:
                unreadable.append(line.removesuffix(b"\n") + b"\n")
            elif step <= last_step:
                kept.write(line.removesuffix(b"\n") + b"\n")
    if unreadable:
        with path.with_name(f"{path.name}.damaged").open("ab") as aside:
            aside.writelines(unreadable)
    flush(partial)
    partial.replace(path)


def _survey(name: str, file: Iterable[bytes], most: int) -> tuple[int, list[int]]:
    """How many of the log's first lines there are, and which of them are no rows."""
    count, unreadable = 0, []
    for line in file:
        if count == most:
            break
        count += 1
        if name in _KEYS and _step_of(name, line) is None:
            unreadable.append(count)
    return count, unreadable


def _difference(lines: int, changed: tuple[int, int], written: int) -> str:
    """What is known of a log with so many of the lines written, and a range that has changed."""
    start, stop = changed
    if lines < stop:
        rest = f", and {_span(start, lines)} cannot be compared" if lines >= start else ""
        return f"has {lines} of {_lines(written)}{rest}"
    shortened = f"has {lines} of {_lines(written)}, and " if lines < written else ""
    later = f", and {_span(stop + 1, lines)} cannot be compared" if stop < lines else ""
    return f"{shortened}{_span(start, stop)} changed{later}"


def _not_rows(numbers: Sequence[int]) -> list[str]:
    if not numbers:
        return []
    shown = ", ".join(str(number) for number in numbers[:_NAMED_LINES])
    more = f" and {len(numbers) - _NAMED_LINES} more" if len(numbers) > _NAMED_LINES else ""
    if len(numbers) == 1:
        return [f"line {shown} is not a row of this log"]
    return [f"lines {shown}{more} are not rows of this log"]


def _step_of(name: str, line: bytes) -> int | None:
    """The step of a row; None if the line is not a row of this log."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or not row.keys() >= _KEYS[name] or type(row["step"]) is not int:
        return None
    return row["step"]


def _span(start: int, stop: int) -> str:
    return f"line {start}" if start == stop else f"lines {start} to {stop}"


def _lines(count: int) -> str:
    return f"{count} line" if count == 1 else f"{count} lines"
