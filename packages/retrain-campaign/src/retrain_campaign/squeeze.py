"""`[squeeze]` after a training: which analysis it asks for, and a campaign's, beside its runs."""

import threading
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import TypeAlias

from pydantic import JsonValue
from rich.console import Console

from retrain_backends.config import Origin, RunConfig
from retrain_backends.errors import ConfigError, describe
from retrain_backends.plugins import load_object
from retrain_backends.train.refusals import ranks_beyond
from retrain_campaign.events import Event, Squeezed
from retrain_squeeze.settings import SqueezeSettings

# What to note in the manifest, and a text to show.
Analysis: TypeAlias = tuple[dict[str, JsonValue], str]
Analyse: TypeAlias = Callable[[str], Analysis]

_LATER = "the adapter of this run"
# The settings that are keys of other tables.
_LOGGING = {"wandb_project", "wandb_run_name", "wandb_entity", "wandb_group", "wandb_tags"}
_TABLES = {"base_url": "model", **dict.fromkeys(_LOGGING, "logging")}
_WIDTH = 100  # of the text, in characters


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


def analysis_for(settings: SqueezeSettings, directory: Path) -> Analyse:
    """What does the analysis of an adapter, here or at a service.

    Args:
      settings: without the adapter.
      directory: of the campaign, from where an adapter's path is seen, and for the picture.
    """

    def analysed(adapter: str) -> Analysis:
        # By name, since few campaigns have a use for it.
        run_squeeze = load_object("retrain_squeeze.run:run_squeeze")
        shown = StringIO()
        path = adapter if "://" in adapter else str(directory / adapter)
        console = Console(file=shown, width=_WIDTH)
        report = run_squeeze(replace(settings, adapter_path=path), console=console, place=directory)
        note: dict[str, JsonValue] = {
            "recommended_rank": report.found.analysis.recommended_rank,
            "source_rank": report.found.analysis.source_rank,
            "min_variance_retention": report.found.analysis.min_variance_retention,
            "adapter": adapter,
            "output": settings.output_path or None,
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
