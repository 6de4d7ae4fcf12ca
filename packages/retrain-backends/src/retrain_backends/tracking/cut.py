"""Removes the rows that a run logged after the checkpoint it is resumed from."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from retrain_backends.tracking.journal import EVALUATIONS_FILE, JOURNAL_FILES, METRICS_FILE


def log_lengths(directory: Path) -> dict[str, int]:
    """Bytes of each log of a run that exists."""
    files = {name: directory / name for name in JOURNAL_FILES}
    return {name: path.stat().st_size for name, path in files.items() if path.exists()}


def problem_with_logs(directory: Path, lengths: Mapping[str, int]) -> str:
    """Why the logs cannot be cut to these lengths, or an empty string.

    A log that is too short has lost rows; one without a line end there is another log. Those that
    the run itself reads must hold rows only.
    """
    for name, length in lengths.items():
        try:
            if length and not _ends_a_line(directory / name, length):
                return f"{name} has no row that ends at byte {length}"
            if name in (METRICS_FILE, EVALUATIONS_FILE):
                _read_rows(directory / name, length)
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
        except ValueError as error:
            return f"{name} has a line that is not a row of a log ({error})"
    return ""


def rows_after(directory: Path, lengths: Mapping[str, int]) -> int:
    """Rows of `metrics.jsonl` after its length; an incomplete last row does not count."""
    path = directory / METRICS_FILE
    if not path.exists():
        return 0
    with path.open("rb") as file:
        file.seek(lengths.get(METRICS_FILE, 0))
        return file.read().count(b"\n")


def cut_logs(directory: Path, lengths: Mapping[str, int]) -> None:
    """Truncate each log to its length; one without a length is emptied."""
    for name in JOURNAL_FILES:
        path = directory / name
        if path.exists():
            os.truncate(path, lengths.get(name, 0))


def _read_rows(path: Path, length: int) -> None:
    with path.open("rb") as file:
        for line in file.read(length).splitlines():
            if "step" not in json.loads(line):
                raise ValueError("it has no step")


def _ends_a_line(path: Path, length: int) -> bool:
    with path.open("rb") as file:
        file.seek(length - 1)
        return file.read(1) == b"\n"
