"""Reads the last rows of a log without the rows before them."""

from pathlib import Path
from typing import Any

from pydantic_core import from_json

_BLOCK = 16 * 1024


def last_rows(path: Path, count: int) -> list[dict[str, Any]]:
    """The last whole rows of a JSON Lines file, in order; fewer where there are fewer.

    An incomplete last line is ignored. If a line is not an object with a `step`, the file is not a
    run's log and has no rows.

    Args:
      path: the file; a missing one has no rows.
      count: how many rows, at least 1.
    """
    lines = _last_lines(path, count)
    try:
        rows = [from_json(line) for line in lines]
    except ValueError:  # a border: a damaged file, or not a run's
        return []
    return rows if all(map(_is_row, rows)) else []


def _is_row(row: object) -> bool:
    return isinstance(row, dict) and type(row.get("step")) is int


def _last_lines(path: Path, count: int) -> list[bytes]:
    try:
        with path.open("rb", buffering=0) as file:
            end = file.seek(0, 2)
            tail = b""
            while end and tail.count(b"\n") <= count:
                start = max(0, end - _BLOCK)
                file.seek(start)
                tail = file.read(end - start) + tail
                end = start
    except FileNotFoundError:
        return []
    *whole, _ = tail.split(b"\n")
    return whole[-count:]
