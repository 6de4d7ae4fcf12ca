"""`[squeeze]` after a training: which analysis it asks for, and a campaign's, beside its runs."""

import threading
from collections.abc import Callable
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import JsonValue
from rich.console import Console

from retrain_backends.config import RunConfig
from retrain_backends.errors import ConfigError, describe
from retrain_backends.plugins import load_object
from retrain_backends.train.refusals import ranks_beyond
from retrain_campaign.events import Event, Squeezed
from retrain_squeeze.config import LoggingConfig, ModelConfig, SqueezeJob
from retrain_squeeze.errors import SqueezeConfigError
from retrain_squeeze.load import job_of
from retrain_squeeze.problems import Origin

# What to note in the manifest, and a text to show.
Analysis: TypeAlias = tuple[dict[str, JsonValue], str]
Analyse: TypeAlias = Callable[[str], Analysis]

_LATER = "the adapter of this run"
_WIDTH = 100  # of the text, in characters


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


def analysis_for(job: SqueezeJob, directory: Path) -> Analyse:
    """What does the analysis of an adapter, here or at a service.

    Args:
      job: without the adapter.
      directory: of the campaign, from where an adapter's path is seen, and for the picture.
    """

    def analysed(adapter: str) -> Analysis:
        # By name, since few campaigns have a use for it.
        run_squeeze = load_object("retrain_squeeze.run:run_squeeze")
        shown = StringIO()
        path = adapter if "://" in adapter else str(directory / adapter)
        console = Console(file=shown, width=_WIDTH)
        report = run_squeeze(job_for(job, path), console=console, place=directory)
        note: dict[str, JsonValue] = {
            "recommended_rank": report.found.analysis.recommended_rank,
            "source_rank": report.found.analysis.source_rank,
            "min_variance_retention": report.found.analysis.min_variance_retention,
            "adapter": adapter,
            "output": job.squeeze.output_path or None,
        }
        return note, shown.getvalue().rstrip()

    return analysed


def analyse_beside(
    analyse: Callable[[], Analysis], name: str, put: Callable[[Event], None]
) -> None:
    """Analyse the adapter of the run `name` in a thread, and put what comes of it."""

    def analyse_it() -> None:
        # A border: whatever goes wrong in an analysis must not end the campaign.
        try:
            result, text = analyse()
            put(Squeezed(name, result, text))
        except Exception as error:  # noqa: BLE001
            put(Squeezed(name, {}, "", describe(error)))

    threading.Thread(target=analyse_it, name="analyses an adapter", daemon=True).start()
