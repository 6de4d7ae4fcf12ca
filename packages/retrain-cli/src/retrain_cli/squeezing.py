"""An analysis of an adapter that `retrain` is asked for: by a path and flags, or by `[squeeze]`."""

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
# What a key means to an analysis where that differs from a training run.
_TEXTS = {"wandb_run_name": "Name of the run there. Empty: `squeeze-analysis`."}
# The tables that an analysis alone has a use for; all others ask for a training run.
_READ = frozenset({"squeeze", "model", "logging"})


@cache
def squeeze_flags() -> Mapping[str, FieldDoc]:
    """The field behind every flag of `retrain squeeze`; no table stands in front of its keys."""
    read = [
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
        for field in read
    ]
    short = {field.flag: field for field in fields if field.path != _ADAPTER}
    return {**{f"{field.section}-{flag}": field for flag, field in short.items()}, **short}


def read_squeeze(arguments: Arguments) -> SqueezeSettings:
    """The analysis that `retrain squeeze` asks for.

    Raises:
      ConfigError: holds a line for every mistake in the flags and the file.
    """
    load_env_file(Path(".env"))
    problems, paths = list(arguments.problems), arguments.paths
    if len(paths) != 1:
        problems.append(
            f"one adapter or file at a time: {', '.join(paths)}"
            if paths
            else "name an adapter's directory or a TOML file; `retrain squeeze --help` has more"
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
            f"{path}: there is no table [squeeze], which says what to analyse; write adapter_path "
            "under it"
        )
    return settings_alone(config, arguments)


def settings_alone(config: RunConfig, arguments: Arguments) -> SqueezeSettings:
    """The analysis that `[squeeze]` asks for where nothing is to be trained.

    Raises:
      ConfigError: holds a line for every mistake, such as tables of a training run.
    """
    origin = Origin.of(arguments)
    others = [name for name in RunConfig.model_fields if name in config.model_fields_set - _READ]
    if others:
        raise ConfigError(
            f"{origin.place('squeeze', 'adapter_path')} asks for an analysis, which trains "
            f"nothing, but there is also {', '.join(f'[{name}]' for name in others)}; leave out "
            "adapter_path to analyse the adapter that the run trains, or use "
            "`retrain squeeze ADAPTER`"
        )
    return settings_of(config, origin)


def _settings_of_flags(adapter: str, arguments: Arguments) -> SqueezeSettings:
    """The analysis of an adapter that the command line names."""
    given = replace(
        arguments,
        overrides={**arguments.overrides, _ADAPTER: adapter},
        flags={**arguments.flags, _ADAPTER: "ADAPTER"},
    )
    return settings_of(load_flags(given), Origin.of(given))
