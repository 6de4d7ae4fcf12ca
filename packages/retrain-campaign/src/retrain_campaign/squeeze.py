"""The analysis that `[squeeze]` asks for, of an adapter that is yet to be trained."""

from importlib.util import find_spec
from typing import Any

from retrain_backends.config import RunConfig
from retrain_backends.errors import ConfigError
from retrain_backends.train.refusals import ranks_beyond
from retrain_squeeze.config import LoggingConfig, ModelConfig, SqueezeJob
from retrain_squeeze.errors import SqueezeConfigError
from retrain_squeeze.load import job_of
from retrain_squeeze.problems import Origin

_LATER = "the adapter of this run"


def job_after_training(config: RunConfig, origin: Origin) -> SqueezeJob:
    """The analysis that `[squeeze]` asks for, of an adapter that is yet to be trained.

    The names in `[logging]` are those of the trained run, and a tracker that is not installed costs
    the analysis no more than it costs the run.

    Args:
      config: has the table.
      origin: where it was read from, for messages.

    Raises:
      ConfigError: holds a line for every mistake.
    """
    assert config.squeeze is not None, "there is a table [squeeze]"
    logging = config.logging.model_dump(include=set(LoggingConfig.model_fields))
    if find_spec("wandb") is None:
        logging["wandb_project"] = ""
    tables: dict[str, Any] = {
        "squeeze": {**config.squeeze.model_dump(), "adapter_path": _LATER},
        "model": config.model.model_dump(include=set(ModelConfig.model_fields)),
        "logging": {**logging, "wandb_run_name": ""},
    }
    problems = list(ranks_beyond(config))
    try:
        job = job_of(tables, origin)
    except SqueezeConfigError as error:
        raise ConfigError(*problems, *error.problems) from error
    if problems:
        raise ConfigError(*problems)
    return job


def job_for(job: SqueezeJob, adapter: str) -> SqueezeJob:
    """The same analysis, of this adapter."""
    squeeze = job.squeeze.model_copy(update={"adapter_path": adapter})
    return job.model_copy(update={"squeeze": squeeze})
