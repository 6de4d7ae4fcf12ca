"""The output directory of a compressed adapter, which appears complete or not at all.

An attempt that is killed leaves a hidden directory and, if it is killed while its files are moved
out of that, some of the files. The next attempt removes the one and completes the other.
"""

import filecmp
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from retrain_squeeze.errors import SqueezeConfigError, SqueezeError
from retrain_squeeze.file_names import CONFIG_FILE, TOKENIZER_FILES, WEIGHTS_FILE

_ADAPTER_FILES = (CONFIG_FILE, WEIGHTS_FILE, *TOKENIZER_FILES)
_OCCUPIED = "a directory with files in it; name a new or an empty directory"


def obstacle(output: Path, *, new: bool = False) -> str:
    """Why nothing can be written to `output`, to follow "is "; "" if it is new or empty.

    Files of an adapter are no obstacle here, because `whole_directory` accepts those that an
    earlier attempt has written, and refuses all others.

    Args:
      output: the directory.
      new: whether files of an adapter are an obstacle too.
    """
    if not output.is_dir():
        return "a file; name a directory" if output.exists() else ""
    allowed = () if new else _ADAPTER_FILES
    real = Path(os.path.realpath(output))
    partial = _partial_directories(real)
    files = (path for path in real.iterdir() if path not in partial)
    foreign = any(not path.is_file() or not any(map(path.match, allowed)) for path in files)
    return _OCCUPIED if foreign else ""


@contextmanager
def whole_directory(output: Path) -> Iterator[Path]:
    """A temporary directory that becomes `output` on success and is removed on failure.

    It is created beside `output`, or inside `output` if that exists, since a working directory, a
    mount or the target of a link cannot be replaced; its files are then moved, the configuration
    last. What earlier attempts left is removed, so of two simultaneous attempts the first fails.

    Raises:
      SqueezeConfigError: `output` has files other than those written here.
      SqueezeError: `output` cannot be written.
    """
    real = Path(os.path.realpath(output))
    inside = real.is_dir()
    parent = real if inside else real.parent
    partial = parent / f".{real.name}.{secrets.token_hex(4)}.partial"
    try:
        for abandoned in _partial_directories(real):
            shutil.rmtree(abandoned)
        partial.mkdir(parents=True)
        try:
            yield partial
            _flush(partial)
            if inside:
                _move_files(partial, real)
            else:
                partial.replace(real)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        _sync(parent)
    except OSError as error:  # a disk that is full, read-only or gone
        raise SqueezeError(
            f"output_path `{output}` cannot be written ({error.strerror or error})"
        ) from error


def _partial_directories(real: Path) -> list[Path]:
    """The temporary directories of all attempts to write an output, inside and beside it."""
    found = (path for place in (real, real.parent) for path in place.glob(".*.partial"))
    return [path for path in found if path.name.startswith(f".{real.name}.") and path.is_dir()]


def _move_files(partial: Path, output: Path) -> None:
    """Move the new files to `output`, where the same files may already be."""
    new = {file.name for file in partial.iterdir()}
    for file in output.iterdir():
        same = file.name in new and filecmp.cmp(file, partial / file.name, shallow=False)
        if not same and file != partial:
            raise SqueezeConfigError(f"output_path is `{output}`, {_OCCUPIED}")
    for name in sorted(new, key=lambda name: name == CONFIG_FILE):
        (partial / name).replace(output / name)


def _flush(directory: Path) -> None:
    """Flush a directory and its files to the disk."""
    for file in directory.iterdir():
        _sync(file)
    _sync(directory)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
