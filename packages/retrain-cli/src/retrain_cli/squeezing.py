"""`[squeeze]` in a file that `retrain` reads: an analysis alone, or after the training."""

from collections.abc import Iterator, Sequence
from typing import Any

from retrain_backends.config import RunConfig, SqueezeConfig, read_arguments
from retrain_backends.errors import ConfigError
from retrain_squeeze.config import LoggingConfig, ModelConfig, SqueezeJob
from retrain_squeeze.load import job_of
from retrain_squeeze.problems import Origin

# The tables that an analysis alone has a use for; all others ask for a training run.
_READ = frozenset({"squeeze", "model", "logging"})
_LATER = "the adapter of this run"


class Squeezing:
    """What `[squeeze]` asks for; wrong settings are refused here, before anything is trained.

    Args:
      config: has the table.
      arguments: the command line that it was read from, for messages.

    Attributes:
      alone: whether the table names an adapter, and nothing is to be trained.
    """

    def __init__(self, config: RunConfig, arguments: Sequence[str]) -> None:
        told = config.squeeze
        assert told is not None, "there is a table [squeeze]"
        read = read_arguments(arguments)
        origin = Origin(read.paths[0] if read.paths else "retrain.toml", read.flags)
        self.alone = bool(told.adapter_path)
        problems = _both(config, origin) if self.alone else _beyond(config, told, origin)
        if lines := list(problems):
            raise ConfigError(*lines)
        self._job = job_of(_tables(config, told, alone=self.alone), origin)

    def run(self, adapter: str = "", *, as_json: bool = False) -> None:
        """Do the analysis.

        Args:
          adapter: that the run has trained; empty for the one that the table names.
          as_json: print one JSON object and nothing else.
        """
        from retrain_squeeze.run import run_squeeze

        run_squeeze(_with_adapter(self._job, adapter) if adapter else self._job, as_json=as_json)


def _tables(config: RunConfig, told: SqueezeConfig, *, alone: bool) -> dict[str, Any]:
    """The tables of the job; after a training, the names in `[logging]` are those of that run."""
    given = {"model": config.model, "logging": config.logging}
    kinds = {"model": ModelConfig, "logging": LoggingConfig}
    tables: dict[str, Any] = {
        name: section.model_dump(include=set(kinds[name].model_fields))
        for name, section in given.items()
    }
    if not alone:
        tables["logging"]["wandb_run_name"] = ""
    squeeze = told.model_dump()
    return {**tables, "squeeze": {**squeeze, "adapter_path": told.adapter_path or _LATER}}


def _both(config: RunConfig, origin: Origin) -> Iterator[str]:
    """A line for a file that asks for an analysis and for a training run."""
    others = [f"[{name}]" for name in RunConfig.model_fields if name in config.model_fields_set]
    training = [name for name in others if name[1:-1] not in _READ]
    if training:
        yield (
            f"{origin.place('squeeze', 'adapter_path')} asks for an analysis, which trains "
            f"nothing, but there is also {', '.join(training)}; leave out adapter_path to analyse "
            "the adapter that the run trains, or use `retrain squeeze ADAPTER`"
        )


def _beyond(config: RunConfig, told: SqueezeConfig, origin: Origin) -> Iterator[str]:
    """Lines for ranks that the adapter of the run will not have."""
    rank = config.model.lora_rank
    for key in ("source_rank", "target_ranks", "compress_to"):
        value = getattr(told, key)
        if max(value if isinstance(value, tuple) else (value,), default=0) > rank:
            shown = list(value) if isinstance(value, tuple) else value
            yield (
                f"{origin.place('squeeze', key)} is `{shown}`, but the run trains an adapter of "
                f"rank {rank} (model.lora_rank)"
            )


def _with_adapter(job: SqueezeJob, adapter: str) -> SqueezeJob:
    squeeze = job.squeeze.model_copy(update={"adapter_path": adapter})
    return job.model_copy(update={"squeeze": squeeze})
