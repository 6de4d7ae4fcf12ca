"""The directories through which a server gets the adapters of a run: in memory, a new one each."""

import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import gettempdir

from filelock import FileLock, Timeout

from retrain_backends.errors import ConfigError

_MEMORY = Path("/dev/shm")
_PREFIX = "retrain-adapters-"


class AdapterFiles:
    """The newest adapters of one process, by version.

    A server reads an adapter by its path and may keep what it read, so no path is used twice.
    The directory is locked; those of processes that were killed are not, and are removed.

    Args:
      parent: where; empty for memory (`/dev/shm`), or the system's temporary directory.
      kept: versions that remain, since requests in flight may still need the files.

    Raises:
      ConfigError: `parent` cannot be written.
    """

    def __init__(self, parent: str = "", kept: int = 2) -> None:
        place = Path(parent).absolute() if parent else _in_memory()
        self.name = secrets.token_hex(4)
        self._kept = kept
        try:
            place.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(place)
            self._directory = place / f"{_PREFIX}{self.name}"
            self._lock = FileLock(self._directory.with_suffix(".lock"))
            self._lock.acquire(timeout=0)
            self._directory.mkdir()  # readable for others: the server may be another account's
        except OSError as error:
            raise ConfigError(
                f"inference.adapter_dir: `{place}` cannot be written ({error.strerror}); name a"
                " directory that this machine can write and the server can read"
            ) from error

    def write(self, version: int, export: Callable[[Path], object]) -> Path:
        """Export an adapter into the directory of its version; returns that."""
        partial, target = self._directory / "partial", self._directory / f"v{version}"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        export(partial)
        partial.rename(target)
        versions = sorted(int(path.name[1:]) for path in self._directory.glob("v*"))
        for old in versions[: -self._kept]:
            shutil.rmtree(self._directory / f"v{old}", ignore_errors=True)
        return target

    def close(self) -> None:
        """Remove them all."""
        _remove(self._directory, self._lock)


def _in_memory() -> Path:
    usable = _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK)
    return _MEMORY if usable else Path(gettempdir())


def _remove_abandoned(place: Path) -> None:
    for path in place.glob(f"{_PREFIX}*.lock"):
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except (Timeout, OSError):  # in use, or another account's
            continue
        _remove(path.with_suffix(""), lock)


def _remove(directory: Path, lock: FileLock) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()
