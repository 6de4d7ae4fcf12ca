"""The JSON Lines files of a run.

    metrics.jsonl                 one object a step
    emergence/steps.jsonl         reward and counts of each step
    emergence/generations.jsonl   every completion in full
    eval.jsonl                    one object an evaluation
    eval/step_000020.jsonl        every question of that evaluation, with its completions

Every time is in a key that ends in `_s` or in `tokens_per_second`; all else is the same for the
same seed. A figure that was not measured is null, never 0.
"""

import json
import math
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeAlias

from retrain_backends.atomic import flush
from retrain_backends.tracking.log_digests import Mark, RunningDigest

Row: TypeAlias = Mapping[str, object]

METRICS_FILE = "metrics.jsonl"
STEPS_FILE = "emergence/steps.jsonl"
GENERATIONS_FILE = "emergence/generations.jsonl"
EVALUATIONS_FILE = "eval.jsonl"
_STEP_FILES = (METRICS_FILE, STEPS_FILE, GENERATIONS_FILE)
# All files that only grow; those of a run without evaluations lack the last one.
JOURNAL_FILES = (*_STEP_FILES, EVALUATIONS_FILE)


class Reader(Protocol):
    """Gets the rows of a run once they are in its files: its trackers, its console view."""

    def step(self, row: Row) -> None:
        """Process a row of `metrics.jsonl`."""
        ...

    def evaluation(self, row: Row) -> None:
        """Process a row of `eval.jsonl`."""
        ...


class Journal:
    """Appends the rows of each step to the files of one run, and flushes them.

    A step's metrics row comes last: if it is there, the other rows of that step are too.

    Args:
      directory: of the run.
      readers: get each row after it has been written.
    """

    def __init__(self, directory: Path, readers: Sequence[Reader] = ()) -> None:
        self._directory = directory
        self._readers = readers
        self._status = directory.stat()
        self._logs = {name: _Log(directory / name) for name in _STEP_FILES}
        self._questions: dict[str, Mark] = {}
        if (directory / EVALUATIONS_FILE).exists():
            self._logs[EVALUATIONS_FILE] = _Log(directory / EVALUATIONS_FILE)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def write(self, metrics: Row, emergence: Row, generations: Iterable[Row]) -> None:
        """Append one step: its metrics, its line of `steps.jsonl`, its completions."""
        self._logs[GENERATIONS_FILE].append(generations)
        self._logs[STEPS_FILE].append([emergence])
        self._logs[METRICS_FILE].append([metrics])
        for reader in self._readers:
            reader.step(metrics)

    def write_evaluation(self, step: int, summary: Row, questions: Iterable[Row]) -> None:
        """Add one evaluation: a file of its questions, then its line of `eval.jsonl`.

        If the line is there, the file is complete; a file without a line belongs to an evaluation
        that was interrupted, and is overwritten by the next one of that step.
        """
        name = f"eval/step_{step:06d}.jsonl"
        path = self._directory / name
        path.unlink(missing_ok=True)
        file = _Log(path)
        file.append(questions)
        self._questions[name] = file.mark()
        file.close()
        flush(path)
        if EVALUATIONS_FILE not in self._logs:
            self._logs[EVALUATIONS_FILE] = _Log(self._directory / EVALUATIONS_FILE)
        self._logs[EVALUATIONS_FILE].append([summary])
        for reader in self._readers:
            reader.evaluation(summary)

    def flush(self) -> dict[str, Mark]:
        """Flush the logs to the disk; returns the end of each file, those of questions included."""
        for log in self._logs.values():
            log.flush()
        return {name: log.mark() for name, log in self._logs.items()} | self._questions

    def lost(self) -> str:
        """What another program has done to the directory or a log; empty if nothing."""
        if not self.is_in_place():
            return "the directory was deleted or renamed"
        changes = ((name, log.change()) for name, log in self._logs.items())
        return next((f"{name} {change}" for name, change in changes if change), "")

    def is_in_place(self) -> bool:
        """Whether the run's directory is still where it was."""
        try:
            return os.path.samestat(self._directory.stat(), self._status)
        except OSError:
            return False

    def restore(self, directory: Path) -> None:
        """Write the logs that are missing in a directory; a deleted file is readable while open."""
        for name, log in self._logs.items():
            if not (directory / name).exists():
                log.copy_to(directory / name)

    def close(self) -> None:
        """Close the files."""
        for log in self._logs.values():
            log.close()


class _Log:
    """A file that only grows, with its running digest."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        self._path = path
        self._file = path.open("a+b")
        self._digest = RunningDigest()
        self._file.seek(0)
        self._digest.add_file(self._file)

    def append(self, rows: Iterable[Row]) -> None:
        """Append rows, and hand them to the operating system."""
        # A lone surrogate cannot be encoded; its backslash escape is what JSON writes for it.
        lines = [f"{to_json(row)}\n".encode("utf-8", "backslashreplace") for row in rows]
        data = b"".join(lines)
        self._file.write(data)
        self._file.flush()
        self._digest.add(data)

    def flush(self) -> None:
        """Flush what was appended to the disk."""
        os.fsync(self._file.fileno())

    def mark(self) -> Mark:
        """The end of the file."""
        return self._digest.mark()

    def change(self) -> str:
        """What another program has done to the file; empty if nothing."""
        try:
            status = self._path.stat()
        except OSError as error:
            return f"cannot be found ({error.strerror})"
        if not os.path.samestat(status, os.fstat(self._file.fileno())):
            return "was replaced"
        if status.st_size != self._digest.bytes:
            return f"was changed (it has {status.st_size} bytes, not {self._digest.bytes})"
        return ""

    def copy_to(self, path: Path) -> None:
        """Write the content of the file, which may have been deleted, to a new file."""
        path.parent.mkdir(exist_ok=True)
        self._file.seek(0)
        with path.open("wb") as file:
            shutil.copyfileobj(self._file, file)
        flush(path)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_metrics(directory: Path) -> list[dict[str, Any]]:
    """All rows of the run's `metrics.jsonl`; none if no step has been written."""
    return read_rows(directory / METRICS_FILE)


def read_evaluations(directory: Path) -> list[dict[str, Any]]:
    """All rows of the run's `eval.jsonl`; none if nothing has been evaluated."""
    return read_rows(directory / EVALUATIONS_FILE)


def read_rows(file: Path) -> list[dict[str, Any]]:
    """All rows of a JSON Lines file; none if there is no file."""
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]


def without_times(row: Row) -> Row:
    """The part of a row that is the same for the same seed."""
    return {k: v for k, v in row.items() if not k.endswith("_s") and k != "tokens_per_second"}


def to_json(row: Row) -> str:
    """The row as one line of JSON, keys in their own order, non-finite numbers as null."""
    finite = {key: None if _is_non_finite(value) else value for key, value in row.items()}
    return json.dumps(finite, allow_nan=False, ensure_ascii=False)


def _is_non_finite(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
