"""Read the settings of an analysis from a path and flags, or from `[squeeze]` in a file."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from retrain_backends.config import (
    Arguments,
    Origin,
    RunConfig,
    load_arguments,
    load_env_file,
    load_flags,
)
from retrain_backends.config.describe import FieldDoc, fields_by_path
from retrain_backends.errors import ConfigError
from retrain_campaign.squeeze import settings_of
from retrain_squeeze.settings import REMOTE, SqueezeSettings

_ADAPTER = "squeeze.adapter_path"
# Descriptions of keys that mean something else to an analysis than to a training run.
_TEXTS = {"wandb_run_name": "Name of the run there. Empty: `squeeze-analysis`."}
# The tables that an analysis reads; any other table belongs to a training run.
_TABLES = frozenset({"squeeze", "model", "logging"})


@cache
def squeeze_flags() -> Mapping[str, FieldDoc]:
    """The field of each flag of `retrain squeeze`; the table may be omitted from the flag."""
    read_fields = [
        field
        for start in ("squeeze.", "model.base_url", "logging.wandb_")
        for path, field in fields_by_path().items()
        if path.startswith(start)
    ]
    fields = [
        replace(
            field,
            flag=field.key.replace("_", "-"),
            description=_TEXTS.get(field.key, field.description),
        )
        for field in read_fields
    ]
    short = {field.flag: field for field in fields if field.path != _ADAPTER}
    return {**{f"{field.section}-{flag}": field for flag, field in short.items()}, **short}


def read_squeeze(arguments: Arguments) -> SqueezeSettings:
    """The settings of `retrain squeeze`.

    Raises:
      ConfigError: has a line for every mistake in the flags and the file.
    """
    load_env_file(Path(".env"))
    problems, paths = list(arguments.problems), arguments.paths
    if len(paths) != 1:
        problems.append(
            f"one adapter or file at a time: {', '.join(paths)}"
            if paths
            else "name the directory of an adapter or a TOML file; see `retrain squeeze --help`"
        )
        return _settings_of_flags("", replace(arguments, problems=problems))
    (path,) = paths
    if path.startswith(REMOTE) or Path(path).is_dir():
        return _settings_of_flags(path, arguments)
    if Path(path).suffix != ".toml" and not Path(path).exists():
        problems.append(f"{path}: no such directory or file")
        return _settings_of_flags(path, replace(arguments, problems=problems))
    config = load_arguments(arguments)
    if config.squeeze is None:
        raise ConfigError(
            f"{path}: the table [squeeze] is missing; add it with the key adapter_path"
        )
    return settings_alone(config, arguments)


def settings_alone(config: RunConfig, arguments: Arguments) -> SqueezeSettings:
    """The settings in `[squeeze]` of a file that trains nothing.

    Raises:
      ConfigError: has a line for every mistake, such as tables of a training run.
    """
    origin = Origin.of(arguments)
    others = [name for name in RunConfig.model_fields if name in config.model_fields_set - _TABLES]
    if others:
        raise ConfigError(
            f"{origin.place('squeeze', 'adapter_path')} asks for an analysis without "
            f"training, but there is also {', '.join(f'[{name}]' for name in others)}; omit "
            "adapter_path to analyse the adapter that the run trains, or use "
            "`retrain squeeze ADAPTER`"
        )
    return settings_of(config, origin)


def _settings_of_flags(adapter: str, arguments: Arguments) -> SqueezeSettings:
    """The settings for an adapter that is named on the command line."""
    given = replace(
        arguments,
        overrides={**arguments.overrides, _ADAPTER: adapter},
        flags={**arguments.flags, _ADAPTER: "ADAPTER"},
    )
    return settings_of(load_flags(given), Origin.of(given))
