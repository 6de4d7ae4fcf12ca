"""A directory of its own for every run."""

from collections.abc import Iterator
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
    if wanted.resolve() in (Path.cwd(), *Path.cwd().parents):
        raise ConfigError(
            f"{setting}: `{wanted}` is not a directory of the run's own; name one, "
            "for example `logs/train`"
        )
    try:
        return next(path for path in _numbered(wanted) if _claim(path, config_text))
    except OSError as error:
        raise ConfigError(
            f"{setting}: cannot make the directory `{wanted}` ({error.strerror}); name another one"
        ) from error


def free_directory(wanted: Path) -> Path:
    """The directory that `claim_directory` would take now; nothing is written."""
    return next(path for path in _numbered(wanted) if not (path.is_dir() and any(path.iterdir())))


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
