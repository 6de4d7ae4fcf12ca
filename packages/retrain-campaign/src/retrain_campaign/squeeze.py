"""Read the settings of an analysis from `[squeeze]`, before or after the adapter is trained."""

from importlib.util import find_spec

from retrain_backends.config import Origin, RunConfig
from retrain_backends.errors import ConfigError
from retrain_backends.train.refusals import ranks_beyond
from retrain_squeeze.settings import SqueezeSettings

_LATER = "the adapter of this run"
# Settings that are keys of other tables.
_LOGGING = {"wandb_project", "wandb_run_name", "wandb_entity", "wandb_group", "wandb_tags"}
_TABLES = {"base_url": "model", **dict.fromkeys(_LOGGING, "logging")}


def settings_of(config: RunConfig, origin: Origin, *, new_output: bool = False) -> SqueezeSettings:
    """The settings in `[squeeze]`, with those of `[model]` and `[logging]`.

    Args:
      config: a configuration with the table.
      origin: where it was read from, for messages.
      new_output: whether an adapter in `output_path` is refused.

    Raises:
      ConfigError: has a line for every setting that contradicts the others or the file system.
    """
    assert config.squeeze is not None, "the table [squeeze] is set"
    logging = config.logging.model_dump(include=_LOGGING)
    settings = SqueezeSettings(
        **config.squeeze.model_dump(), **logging, base_url=config.model.base_url
    )
    if lines := [
        f"{origin.place(_TABLES.get(name, 'squeeze'), name)} {text}"
        for name, text in settings.problems(new_output=new_output)
    ]:
        raise ConfigError(*lines)
    return settings


def settings_after_training(config: RunConfig, origin: Origin, *, resumed: bool) -> SqueezeSettings:
    """As `settings_of`, for an adapter that is not yet trained; its path is a placeholder.

    The run name in `[logging]` is that of the training run, so the analysis does not use it. If
    wandb is not installed, the analysis is not tracked.

    Args:
      config: a configuration with the table.
      origin: where it was read from, for messages.
      resumed: whether the compressed adapter may have been written already.
    """
    assert config.squeeze is not None, "the table [squeeze] is set"
    logging = {"wandb_run_name": ""}
    if find_spec("wandb") is None:
        logging["wandb_project"] = ""
    later = config.model_copy(
        update={
            "squeeze": config.squeeze.model_copy(update={"adapter_path": _LATER}),
            "logging": config.logging.model_copy(update=logging),
        }
    )
    problems = list(ranks_beyond(config))
    try:
        settings = settings_of(later, origin, new_output=not resumed)
    except ConfigError as error:
        raise ConfigError(*problems, *error.problems) from error
    if problems:
        raise ConfigError(*problems)
    return settings
