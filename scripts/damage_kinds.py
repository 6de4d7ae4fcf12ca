"""The ways in which `damage_harness.py` damages a file or a directory of a run."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random


def flip(path: Path, random: Random) -> None:
    """Flip one bit."""
    content = bytearray(path.read_bytes())
    content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    path.write_bytes(content)


def zero(path: Path, random: Random) -> None:
    """Write zeros over 64 bytes, as a disk may after a power failure."""
    content = bytearray(path.read_bytes())
    at = random.randrange(len(content))
    content[at : at + 64] = bytes(len(content[at : at + 64]))
    path.write_bytes(content)


def change_lines(change: Callable[[list[bytes], Random], object]) -> Callable[[Path, Random], None]:
    """A change of the lines of a text file."""

    def apply(path: Path, random: Random) -> None:
        lines = path.read_bytes().splitlines(keepends=True)
        change(lines, random)
        path.write_bytes(b"".join(lines))

    return apply


def shuffle_two(lines: list[bytes], random: Random) -> None:
    """Exchange two lines."""
    one, two = random.randrange(len(lines)), random.randrange(len(lines))
    lines[one], lines[two] = lines[two], lines[one]


def replace_by_directory(path: Path, _random: Random) -> None:
    """Put a directory in the place of a file."""
    path.unlink()
    path.mkdir()


def swap(path: Path, random: Random) -> None:
    """Exchange a file for another one of the run with the same suffix."""
    run = next(parent for parent in path.parents if parent.name == "run")
    others = sorted(other for other in run.rglob(f"*{path.suffix}") if other != path)
    other = random.choice(others or [path])
    content = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(content)


FILE_DAMAGE: dict[str, Callable[[Path, Random], object]] = {
    "empty": lambda path, _: os.truncate(path, 0),
    "halve": lambda path, _: os.truncate(path, path.stat().st_size // 2),
    "cut the last byte of": lambda path, _: os.truncate(path, path.stat().st_size - 1),
    "delete": lambda path, _: path.unlink(),
    "rename": lambda path, _: path.rename(path.with_name(f"{path.name}.bak")),
    "zero 64 bytes of": zero,
    "append to": lambda path, _: path.write_bytes(path.read_bytes() + b"\x00garbage\n"),
    "delete a line of": change_lines(lambda lines, random: lines.pop(random.randrange(len(lines)))),
    "repeat a line of": change_lines(
        lambda lines, random: lines.insert(random.randrange(len(lines)), random.choice(lines))
    ),
    "exchange lines of": change_lines(shuffle_two),
    "put a directory in the place of": replace_by_directory,
    "exchange with another file": swap,
}
DIRECTORY_DAMAGE: dict[str, Callable[[Path, Random], object]] = {
    "delete": lambda path, _: shutil.rmtree(path),
    "rename": lambda path, _: path.rename(path.with_name(f"{path.name}.bak")),
    "put a file in the place of": lambda path, _: (shutil.rmtree(path), path.touch()),
}
