"""Loads the configuration from a TOML file and flags: default < TOML < flag."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

from dotenv import load_dotenv
from pydantic import ValidationError

from retrain_backends.config.conditions import problems_of_conditions
from retrain_backends.config.describe import fields_by_path
from retrain_backends.config.flags import Arguments, read_arguments
from retrain_backends.config.problems import Origin, problems_of
from retrain_backends.config.run import RunConfig
from retrain_backends.config.toml import read_toml
from retrain_backends.errors import ConfigError

DEFAULT_FILE = Path("retrain.toml")
# Keys that must be set by flags if there is no file.
_REQUIRED_FLAGS = frozenset({"model.model", "data.source"})
CONFIG_FILE = "config.toml"  # the resolved configuration, in the run directory


def load_config(path: Path | None, overrides: Mapping[str, object] | None = None) -> RunConfig:
    """The configuration of a file with overrides.

    Args:
      path: a TOML file; None for the defaults alone.
      overrides: values by `section.key`, typed as in TOML.

    Raises:
      ConfigError: has a line for every mistake in the file and the overrides.
    """
    overrides = overrides or {}
    known = fields_by_path()
    flags = {name: f"--{known[name].flag}" for name in overrides if name in known}
    return _load(path, Arguments(overrides=dict(overrides), flags=flags))


def load_command_line(arguments: Sequence[str]) -> RunConfig:
    """The configuration of a command line: `[PATH.toml] [--flag value]...`.

    The default path is `retrain.toml` in the working directory, or the run's own file with
    `--resume DIR`. No file is needed if flags name a model and a data source. Also loads `.env`
    from the working directory into the environment; variables that are already set do not change.

    Raises:
      ConfigError: has a line for every mistake in the flags and the file.
    """
    return load_arguments(read_arguments(arguments))


def load_arguments(read: Arguments) -> RunConfig:
    """As `load_command_line`, for a parsed command line."""
    load_env_file(Path(".env"))
    problems = list(read.problems)
    if read.resume_alone:
        problems.append(
            "--resume: needs the directory of a run; only `retrain campaign` resumes without one"
        )
    if len(read.paths) > 1:
        problems.append(f"one file at a time: {', '.join(read.paths)}")
    path = Path(read.paths[0]) if read.paths else _file_without_a_path(read)
    if path == DEFAULT_FILE and not path.exists():
        path = None
        if not read.overrides.keys() >= _REQUIRED_FLAGS:
            problems.append(
                f"there is no {DEFAULT_FILE} in this directory; `retrain init` writes one, "
                "`retrain PATH.toml` uses another file, and "
                "`retrain --model NAME --data-source NAME` needs no file"
            )
    return _load(path, replace(read, problems=problems))


def load_flags(read: Arguments) -> RunConfig:
    """The configuration of the flags alone; paths are ignored.

    Raises:
      ConfigError: has a line for every mistake in the flags.
    """
    return _load(None, read)


def _file_without_a_path(arguments: Arguments) -> Path:
    resumed = arguments.overrides.get("resume.from")
    return Path(resumed) / CONFIG_FILE if isinstance(resumed, str) and resumed else DEFAULT_FILE


def load_env_file(path: Path) -> None:
    """Set the variables of a `.env` file that are not set yet; a missing file is ignored.

    Values are not logged or stored.

    Raises:
      ConfigError: it cannot be read, is not UTF-8 text, or has a NUL character.
    """
    try:
        text = path.read_text("utf-8-sig") if path.is_file() or path.is_fifo() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as UTF-8 text") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ConfigError(f"{path}, line {line}: has a NUL character; remove it")
    load_dotenv(stream=StringIO(text), override=False)


def _load(path: Path | None, arguments: Arguments) -> RunConfig:
    problems = list(arguments.problems)
    tables: dict[str, Any] = {}
    if path is not None:
        try:
            tables = read_toml(path)
        except ConfigError as error:
            problems += error.problems
    given = _merged(tables, arguments.overrides)
    for table in arguments.dropped:
        given.pop(table, None)
    file = str(path or "the command line")
    try:
        config = RunConfig.model_validate(given, by_alias=True, by_name=False)
    except ValidationError as error:
        problems += problems_of(error, Origin(file, arguments.flags), given)
    else:
        problems += problems_of_conditions(config, file)
        if not problems:
            return config
    raise ConfigError(*problems)


def _merged(tables: Mapping[str, Any], overrides: Mapping[str, object]) -> dict[str, Any]:
    """The tables with the overrides applied; values that are not tables are left to validation."""
    merged = {name: dict(t) if isinstance(t, dict) else t for name, t in tables.items()}
    for name, value in overrides.items():
        section, _, key = name.partition(".")
        table = merged.setdefault(section, {})
        if isinstance(table, dict):
            table[key] = value
    return merged
