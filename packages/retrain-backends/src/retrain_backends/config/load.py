"""From a TOML file and flags to one frozen configuration: default < TOML < flag."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
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
# What the defaults cannot choose for somebody who has no file.
_ENOUGH = frozenset({"model.model", "data.source"})
CONFIG_FILE = "config.toml"  # the resolved configuration, in the directory of a run


def load_config(path: Path | None, overrides: Mapping[str, object] | None = None) -> RunConfig:
    """The configuration of a file with overrides on top.

    Args:
      path: a TOML file; None for the defaults alone.
      overrides: values by `section.key`, typed as in TOML.

    Raises:
      ConfigError: holds a line for every mistake found in the file and the overrides.
    """
    overrides = overrides or {}
    known = fields_by_path()
    flags = {name: f"--{known[name].flag}" for name in overrides if name in known}
    return _load(path, Arguments(overrides=dict(overrides), flags=flags))


def load_command_line(arguments: Sequence[str]) -> RunConfig:
    """The configuration that a command line asks for: `[PATH.toml] [--flag value]...`.

    Without a path it is `retrain.toml` of the working directory, or after `--resume DIR` the file
    that the run wrote there. Where there is none, flags alone are enough if they name a model and
    a source of data. Also loads the working directory's `.env` into the environment; variables that
    are set already keep their values.

    Raises:
      ConfigError: holds a line for every mistake found in the flags and the file.
    """
    return load_arguments(read_arguments(arguments))


def load_arguments(read: Arguments) -> RunConfig:
    """As `load_command_line`, for a command line that has been taken apart."""
    load_env_file(Path(".env"))
    problems = list(read.problems)
    if read.resume_alone:
        problems.append(
            "--resume: needs the directory of a run; without one it goes on with the newest "
            "campaign of a file"
        )
    if len(read.paths) > 1:
        problems.append(f"one file at a time: {', '.join(read.paths)}")
    path = Path(read.paths[0]) if read.paths else _file_without_a_path(read)
    if path == DEFAULT_FILE and not path.exists():
        path = None
        if not read.overrides.keys() >= _ENOUGH:
            problems.append(
                f"there is no {DEFAULT_FILE} in this directory; `retrain init` writes one, "
                "`retrain PATH.toml` takes another file, and "
                "`retrain --model NAME --data-source NAME` needs none"
            )
    return _load(path, replace(read, problems=problems))


def load_flags(read: Arguments) -> RunConfig:
    """The configuration of the flags alone, whatever paths there are.

    Raises:
      ConfigError: holds a line for every mistake found in the flags.
    """
    return _load(None, read)


def _file_without_a_path(arguments: Arguments) -> Path:
    resumed = arguments.overrides.get("resume.from")
    return Path(resumed) / CONFIG_FILE if isinstance(resumed, str) and resumed else DEFAULT_FILE


def load_env_file(path: Path) -> None:
    """Set the variables of a `.env` file that the environment does not have yet.

    Values are not checked, logged or kept. A missing file sets nothing.
    """
    try:
        load_dotenv(path, override=False)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as UTF-8 text") from error


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
    """The tables with the overrides in their places; something that is no table is left alone."""
    merged = {name: dict(t) if isinstance(t, dict) else t for name, t in tables.items()}
    for name, value in overrides.items():
        section, _, key = name.partition(".")
        table = merged.setdefault(section, {})
        if isinstance(table, dict):
            table[key] = value
    return merged
