"""The analysis that `[squeeze]` asks for, of an adapter that is yet to be trained."""

from importlib.util import find_spec

from retrain_backends.config import Origin, RunConfig
from retrain_backends.errors import ConfigError
from retrain_backends.train.refusals import ranks_beyond
from retrain_squeeze.settings import SqueezeSettings

_LATER = "the adapter of this run"
# The settings that are keys of other tables.
_LOGGING = {"wandb_project", "wandb_run_name", "wandb_entity", "wandb_group", "wandb_tags"}
_TABLES = {"base_url": "model", **dict.fromkeys(_LOGGING, "logging")}


def settings_of(config: RunConfig, origin: Origin) -> SqueezeSettings:
    """The analysis that `[squeeze]` asks for, with what it reads of `[model]` and `[logging]`.

    Args:
      config: has the table.
      origin: where it was read from, for messages.

    Raises:
      ConfigError: holds a line for every setting that does not fit the others or the file system.
    """
    assert config.squeeze is not None, "there is a table [squeeze]"
    logging = config.logging.model_dump(include=_LOGGING)
    settings = SqueezeSettings(
        **config.squeeze.model_dump(), **logging, base_url=config.model.base_url
    )
    if lines := [
        f"{origin.place(_TABLES.get(name, 'squeeze'), name)} {text}"
        for name, text in settings.problems()
    ]:
        raise ConfigError(*lines)
    return settings


def settings_after_training(config: RunConfig, origin: Origin) -> SqueezeSettings:
    """As `settings_of`, for an adapter that is yet to be trained; its path is a placeholder.

    The names in `[logging]` are those of the trained run, and a tracker that is not installed costs
    the analysis no more than it costs the run.
    """
    assert config.squeeze is not None, "there is a table [squeeze]"
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
        settings = settings_of(later, origin)
    except ConfigError as error:
        raise ConfigError(*problems, *error.problems) from error
    if problems:
        raise ConfigError(*problems)
    return settings
