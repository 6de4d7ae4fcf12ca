"""The JSON Lines files of a run.

    metrics.jsonl                 one object a step
    emergence/steps.jsonl         reward and counts of each step
    emergence/generations.jsonl   every completion in full

Every time is in a key that ends in `_s` or in `tokens_per_second`; all else is the same for the
same seed. A figure that nobody measured is null, never 0.
"""

import json
import math
from collections.abc import Iterable, Mapping
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

Row: TypeAlias = Mapping[str, object]

METRICS_FILE = "metrics.jsonl"
STEPS_FILE = "emergence/steps.jsonl"
GENERATIONS_FILE = "emergence/generations.jsonl"


class Journal:
    """Appends the rows of each step to the files of one run, and flushes them.

    A step's metrics row comes last: where it stands, the other rows of that step stand too.
    """

    def __init__(self, directory: Path) -> None:
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

    def close(self) -> None:
        """Close the files."""
        for file in (self._generations, self._steps, self._metrics):
            file.close()


def read_metrics(directory: Path) -> list[dict[str, Any]]:
    """All rows of the run's `metrics.jsonl`; none when no step has been written."""
    file = directory / METRICS_FILE
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]


def to_json(row: Row) -> str:
    """The row as one line of JSON, keys in their own order, non-finite numbers as null."""
    finite = {key: None if _is_non_finite(value) else value for key, value in row.items()}
    return json.dumps(finite, allow_nan=False, ensure_ascii=False)


def _is_non_finite(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _open(path: Path) -> TextIOWrapper:
    # A lone surrogate cannot be encoded; its backslash escape is what JSON writes for it anyway.
    return path.open("a", encoding="utf-8", errors="backslashreplace", newline="\n")


def _append(file: TextIOWrapper, rows: Iterable[Row]) -> None:
    file.writelines(to_json(row) + "\n" for row in rows)
    file.flush()
