"""Writes that are complete or absent after a kill or a power failure."""

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
    """A border: a full disk within the block becomes a RunError with the given line."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise RunError(line()) from error


@contextmanager
def report_inaccessible(directory: Path, then: Callable[[], str]) -> Iterator[None]:
    """A border: a file of a directory that cannot be read or written becomes a RunError.

    Args:
      directory: of a run; those with its name and a suffix, which it may have got, count too.
      then: what to do once the file is accessible.
    """
    try:
        yield
    except OSError as error:
        named = isinstance(error.filename, str | Path)
        if not named or not str(Path(error.filename).absolute()).startswith(
            str(directory.absolute())
        ):
            raise
        raise RunError(
            f"{error.filename} cannot be accessed ({error.strerror}); make it accessible, then "
            f"{then()}"
        ) from error


@contextmanager
def new_directory(target: Path) -> Iterator[Path]:
    """Yield an empty directory to fill, then flush it to the disk and rename it to `target`.

    `target` is never incomplete, even after a power failure. If the block raises, the partial
    directory is deleted. An existing `target` is replaced; a kill during that may leave neither.
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
    """Delete a directory; it is renamed first, so a kill leaves nothing under its name."""
    renamed = directory.with_name(f".{directory.name}.removed")
    if renamed.exists():
        shutil.rmtree(renamed)
    directory.rename(renamed)
    shutil.rmtree(renamed)


def flush_tree(directory: Path) -> None:
    """Flush a directory and everything in it to the disk."""
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
    """SHA-256 of every file in a directory, by relative path, sorted."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): digest_of(path) for path in files}


def size_of(directory: Path) -> int:
    """Total size of the files in a directory, bytes."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
