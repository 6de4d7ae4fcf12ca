"""Running digests of logs, by which later changes are found and located."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

_BLOCK = 1 << 20
_MOST_MARKS = 64


@dataclass(frozen=True)
class Mark:
    """A position in a log: its bytes and lines up to there, and their SHA-256."""

    bytes: int
    lines: int
    sha256: str


class RunningDigest:
    """The digest of a log that grows; nothing is read twice."""

    def __init__(self) -> None:
        self._hash = sha256()
        self.bytes = 0
        self.lines = 0

    def add(self, data: bytes) -> None:
        """Add what is appended to the log."""
        self._hash.update(data)
        self.bytes += len(data)
        self.lines += data.count(b"\n")

    def add_file(self, file: BinaryIO, end: int | None = None) -> None:
        """Add an open file from its position on, as far as byte `end` of the log."""
        while data := file.read(_BLOCK if end is None else min(_BLOCK, end - self.bytes)):
            self.add(data)

    def mark(self) -> Mark:
        """The position that is reached."""
        return Mark(bytes=self.bytes, lines=self.lines, sha256=self._hash.hexdigest())


def with_mark(marks: Sequence[Mark], mark: Mark) -> list[Mark]:
    """The marks of a log and a later one; of more than 64, every second one is left out.

    The digest of a mark covers the log from its start, so any of them may be left out.
    """
    earlier = [other for other in marks if other.bytes < mark.bytes]
    every = [*earlier, mark]
    return every if len(every) <= _MOST_MARKS else every[::-2][::-1]


def intact_marks(file: BinaryIO, marks: Sequence[Mark]) -> int:
    """How many of the marks, from the first on, an open log agrees with."""
    digest = RunningDigest()
    for count, mark in enumerate(marks):
        digest.add_file(file, mark.bytes)
        if digest.mark() != mark:
            return count
    return len(marks)


def mark_of(path: Path) -> list[Mark]:
    """A mark at the end of a log; none if there is no such file."""
    if not path.is_file():
        return []
    digest = RunningDigest()
    with path.open("rb") as file:
        digest.add_file(file)
    return [digest.mark()]
