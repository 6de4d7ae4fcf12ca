"""Files that survive a kill or a power failure whole, or were never there."""

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from retrain_backends.errors import RunError

_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_CHUNK = 1 << 20


@contextmanager
def telling_full_disk(line: Callable[[], str]) -> Iterator[None]:
    """A border: whatever finds no room on the disk in the block becomes a RunError of one line."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise RunError(line()) from error


def write_atomically(path: Path, text: str) -> None:
    """Replace a file by another text; at every moment it holds the old one or the new one."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8", newline="\n")
    flush(partial)
    partial.replace(path)
    flush(path.parent)


@contextmanager
def new_directory(target: Path) -> Iterator[Path]:
    """An empty directory to fill; then flushed to the disk and renamed to `target`.

    So `target` is never seen half written, not even after a power failure. When filling fails, what
    was written is deleted. A directory that had the name is replaced; a kill may leave neither.
    """
    partial = target.with_name(f".{target.name}.partial")
    if partial.exists():
        shutil.rmtree(partial)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        flush_tree(partial)
        if target.exists():
            remove(target)
        partial.rename(target)
        flush(target.parent)


def remove(directory: Path) -> None:
    """Delete a directory; a kill on the way leaves nothing under its name."""
    hidden = directory.with_name(f".{directory.name}.removed")
    if hidden.exists():
        shutil.rmtree(hidden)
    directory.rename(hidden)
    shutil.rmtree(hidden)


def flush_tree(directory: Path) -> None:
    """Have a directory and all in it written to the disk."""
    for path in [*directory.rglob("*"), directory]:
        flush(path)


def flush(path: Path) -> None:
    """Have the operating system write a file, or a directory's list of names, to the disk."""
    if os.name == "nt" and path.is_dir():  # Windows cannot open a directory, and needs not
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def digests_of(directory: Path) -> dict[str, str]:
    """SHA-256 of every file in a directory, by its path inside, in order."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): digest_of(path) for path in files}


def size_of(directory: Path) -> int:
    """Bytes of all files in a directory."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
