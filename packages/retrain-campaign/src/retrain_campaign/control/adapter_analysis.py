"""The `[squeeze]` analysis of a campaign's first adapter, in a thread beside the runs."""

import threading
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import TypeAlias

from pydantic import JsonValue
from rich.console import Console

from retrain_backends.dotted_names import load_object
from retrain_backends.errors import describe
from retrain_campaign.control.event_queue import AnalysisEnded, Event
from retrain_squeeze.settings import SqueezeSettings

# An entry for the manifest, and the text to print.
Analysis: TypeAlias = tuple[dict[str, JsonValue], str]
# From the adapter's path, as the manifest has it, to its analysis.
Analyse: TypeAlias = Callable[[str], Analysis]

_WIDTH = 100  # of the text, in characters


def analysis_for(settings: SqueezeSettings, directory: Path) -> Analyse:
    """The function that analyses an adapter.

    Args:
      settings: what to do, without the adapter.
      directory: of the campaign; adapter paths are relative to it, and the picture goes there.
    """

    def analyse(adapter: str) -> Analysis:
        # By name, since few campaigns need it.
        run_squeeze = load_object("retrain_squeeze.run:run_squeeze")
        output = StringIO()
        path = adapter if "://" in adapter else str(directory / adapter)
        console = Console(file=output, width=_WIDTH)
        report = run_squeeze(
            replace(settings, adapter_path=path), console=console, picture_directory=directory
        )
        entry: dict[str, JsonValue] = {
            "recommended_rank": report.analyzed.analysis.recommended_rank,
            "source_rank": report.analyzed.analysis.source_rank,
            "min_variance_retention": report.analyzed.analysis.min_variance_retention,
            "adapter": adapter,
            "output": settings.output_path or None,
        }
        return entry, output.getvalue().rstrip()

    return analyse


def analyse_in_thread(
    analyse: Callable[[], Analysis], name: str, put: Callable[[Event], None]
) -> None:
    """Analyse the adapter of the run `name` in a thread; the outcome is put as an event."""

    def work() -> None:
        # A border: a failed analysis must not end the campaign.
        try:
            result, text = analyse()
            put(AnalysisEnded(name, result, text))
        except Exception as error:  # noqa: BLE001
            put(AnalysisEnded(name, {}, "", describe(error)))

    threading.Thread(target=work, name="adapter analysis", daemon=True).start()
