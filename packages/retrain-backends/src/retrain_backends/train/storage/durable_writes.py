"""Files that survive a kill or a power failure whole, or were never there."""

import errno
import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from retrain_backends.atomic import flush
from retrain_backends.errors import RunError

_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_CHUNK = 1 << 20


@contextmanager
def report_full_disk(line: Callable[[], str]) -> Iterator[None]:
    """A border: whatever finds no room on the disk in the block becomes a RunError of one line."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise RunError(line()) from error


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
