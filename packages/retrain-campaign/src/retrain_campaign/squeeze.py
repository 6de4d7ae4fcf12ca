"""The analysis of a campaign's first adapter; `retrain_squeeze` is loaded when there is one."""

import threading
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

from pydantic import JsonValue

from retrain_backends.config import RunConfig, SqueezeConfig
from retrain_backends.errors import describe
from retrain_backends.plugins import load_object
from retrain_campaign.events import Event, Squeezed

# What to note in the manifest, and a text to show.
Analysis: TypeAlias = tuple[dict[str, JsonValue], str]

ANALYSE = "retrain_squeeze:analyze_adapter"
FETCH = "retrain_squeeze.remote:fetch_adapter"
TRACK = "retrain_squeeze.tracking:track"


def analysis_for(base: RunConfig) -> Callable[[str, SqueezeConfig], Analysis]:
    """The analysis of an adapter, here or at a service; on Weights & Biases if the campaign is."""
    logging = base.logging

    def analysed(adapter: str, squeeze: SqueezeConfig) -> Analysis:
        with TemporaryDirectory() as passing:
            local = adapter
            if "://" in adapter:
                local = load_object(FETCH)(adapter, base.model.base_url, Path(passing))
            found = load_object(ANALYSE)(
                local,
                min_variance_retention=squeeze.min_variance_retention,
                target_ranks=squeeze.target_ranks,
                source_rank=squeeze.source_rank,
                device=squeeze.device,
            )
        text = describe_analysis(found, adapter)
        if logging.wandb_project:
            told = logging.model_copy(update={"wandb_run_name": ""})
            text += f"\nsqueeze on Weights & Biases: {load_object(TRACK)(found, adapter, told)}"
        return note_of(found, adapter), text

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


def note_of(analysis: Any, adapter: str) -> dict[str, JsonValue]:
    """What the manifest says of an analysis (`retrain_squeeze.SqueezeAnalysis`)."""
    return {
        "recommended_rank": analysis.recommended_rank,
        "source_rank": analysis.source_rank,
        "min_variance_retention": analysis.min_variance_retention,
        "adapter": adapter,
    }


def describe_analysis(analysis: Any, adapter: str) -> str:
    """The table of ranks, with the share of variance that modules keep, and the recommendation."""
    lines = [f"squeeze: {adapter}", f"{'rank':>8}  {'mean':>7}  {'lowest':>7}"]
    for row in analysis.table:
        mark = "  <- recommended" if row.rank == analysis.recommended_rank else ""
        lines.append(f"{row.rank:>8}  {row.mean:>7.2%}  {row.minimum:>7.2%}{mark}")
    return "\n".join(lines)
