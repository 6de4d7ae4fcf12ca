"""`[squeeze]` in a file that `retrain` reads: an analysis alone, or after the training."""

from collections.abc import Iterator, Sequence
from typing import Any

from retrain_backends.config import RunConfig, SqueezeConfig, read_arguments
from retrain_backends.errors import ConfigError
from retrain_campaign.squeeze import job_after_training, job_for
from retrain_squeeze.config import LoggingConfig, ModelConfig
from retrain_squeeze.load import job_of
from retrain_squeeze.problems import Origin

# The tables that an analysis alone has a use for; all others ask for a training run.
_READ = frozenset({"squeeze", "model", "logging"})


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
        if self.alone:
            if problems := list(_both(config, origin)):
                raise ConfigError(*problems)
            self._job = job_of(_tables(config, told), origin)
        else:
            self._job = job_after_training(config, origin)

    def run(self, adapter: str = "", *, as_json: bool = False) -> None:
        """Do the analysis.

        Args:
          adapter: that the run has trained; empty for the one that the table names.
          as_json: print one JSON object and nothing else.
        """
        from retrain_squeeze.run import run_squeeze

        run_squeeze(job_for(self._job, adapter) if adapter else self._job, as_json=as_json)


def _tables(config: RunConfig, told: SqueezeConfig) -> dict[str, Any]:
    given = {"model": config.model, "logging": config.logging}
    kinds = {"model": ModelConfig, "logging": LoggingConfig}
    tables: dict[str, Any] = {
        name: section.model_dump(include=set(kinds[name].model_fields))
        for name, section in given.items()
    }
    return {**tables, "squeeze": told.model_dump()}


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
