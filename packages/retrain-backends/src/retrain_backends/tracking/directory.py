"""A directory of its own for every run."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from retrain_backends.atomic import flush
from retrain_backends.config import CONFIG_FILE
from retrain_backends.errors import ConfigError


def claim_directory(wanted: Path, config_text: str, *, setting: str) -> Path:
    """Make a directory for a new run and write its `config.toml` there.

    A run never writes among the files of another one: if `wanted` is not empty, the first free of
    `wanted-2`, `wanted-3`, ... is taken. Two runs that start at the same moment get different
    directories.

    Args:
      wanted: the configured directory, e.g. `logs/train`.
      config_text: the resolved configuration as TOML.
      setting: the setting that named the directory, for the error.

    Returns:
      The claimed directory, which holds `config.toml` only.

    Raises:
      ConfigError: the directory is the current one or above it, or cannot be made (a file of that
        name, no permission).
    """
    with _usable(wanted, setting):
        return next(path for path in _numbered(wanted) if _claim(path, config_text))


def free_directory(wanted: Path, *, setting: str) -> Path:
    """The directory that `claim_directory` would take now; nothing is written.

    Raises:
      ConfigError: as `claim_directory`, as far as it can be known without writing.
    """
    with _usable(wanted, setting):
        existing = next(path for path in (wanted, *wanted.parents) if os.path.lexists(path))
        any(existing.iterdir())  # an error for what is no directory
        return next(p for p in _numbered(wanted) if not (p.is_dir() and any(p.iterdir())))


@contextmanager
def _usable(wanted: Path, setting: str) -> Iterator[None]:
    # Unlike `Path.resolve`, it does not fail at a loop of symbolic links, which `mkdir` reports.
    if Path(os.path.realpath(wanted)) in (Path.cwd(), *Path.cwd().parents):
        raise ConfigError(
            f"{setting}: `{wanted}` is not a directory of the run's own; name one, "
            "for example `logs/train`"
        )
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"{setting}: cannot make the directory `{wanted}` ({error.strerror}); name another one"
        ) from error


def _numbered(wanted: Path) -> Iterator[Path]:
    yield wanted
    yield from (wanted.with_name(f"{wanted.name}-{number}") for number in count(2))


def _claim(path: Path, config_text: str) -> bool:
    path.mkdir(parents=True, exist_ok=True)
    if any(path.iterdir()):
        return False
    # The process that creates the partial file continues; a kill never leaves half a config.toml.
    partial = path / f".{CONFIG_FILE}.partial"
    try:
        with partial.open("x", encoding="utf-8") as file:
            file.write(config_text)
    except FileExistsError:  # another run claims it at this moment
        return False
    if (path / CONFIG_FILE).exists():  # or did so a moment ago
        partial.unlink()
        return False
    flush(partial)
    partial.replace(path / CONFIG_FILE)
    return True
