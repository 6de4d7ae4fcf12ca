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
from collections.abc import Iterable, Mapping, Sequence
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, TypeAlias

from retrain_backends.atomic import flush

Row: TypeAlias = Mapping[str, object]

METRICS_FILE = "metrics.jsonl"
STEPS_FILE = "emergence/steps.jsonl"
GENERATIONS_FILE = "emergence/generations.jsonl"
EVALUATIONS_FILE = "eval.jsonl"
# All files that only grow; those of a run without evaluations lack the last one.
JOURNAL_FILES = (METRICS_FILE, STEPS_FILE, GENERATIONS_FILE, EVALUATIONS_FILE)


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
        (directory / "emergence").mkdir(exist_ok=True)
        self._metrics = _open(directory / METRICS_FILE)
        self._steps = _open(directory / STEPS_FILE)
        self._generations = _open(directory / GENERATIONS_FILE)

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
        _append(self._generations, generations)
        _append(self._steps, [emergence])
        _append(self._metrics, [metrics])
        for reader in self._readers:
            reader.step(metrics)

    def write_evaluation(self, step: int, summary: Row, questions: Iterable[Row]) -> None:
        """Add one evaluation: a file of its questions, then its line of `eval.jsonl`.

        If the line is there, the file is complete; a file without a line belongs to an evaluation
        that was interrupted, and is overwritten by the next one of that step.
        """
        path = self._directory / "eval" / f"step_{step:06d}.jsonl"
        path.parent.mkdir(exist_ok=True)
        with _open(path, "w") as file:
            _append(file, questions)
        flush(path)
        with _open(self._directory / EVALUATIONS_FILE) as file:
            _append(file, [summary])
        for reader in self._readers:
            reader.evaluation(summary)

    def close(self) -> None:
        """Close the files."""
        for file in (self._generations, self._steps, self._metrics):
            file.close()


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


def _open(path: Path, mode: Literal["a", "w"] = "a") -> TextIOWrapper:
    # A lone surrogate cannot be encoded; its backslash escape is what JSON writes for it anyway.
    return path.open(mode, encoding="utf-8", errors="backslashreplace", newline="\n")


def _append(file: TextIOWrapper, rows: Iterable[Row]) -> None:
    file.writelines(to_json(row) + "\n" for row in rows)
    file.flush()
