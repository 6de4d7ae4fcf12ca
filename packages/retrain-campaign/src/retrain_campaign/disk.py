"""How much room the runs of a campaign need on the disk."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache

from retrain_backends.config import RunConfig
from retrain_backends.tokenizer import resolve_model
from retrain_campaign.pilot import PilotRun

_FLOAT = 4  # bytes of a float32, in which adapters and their optimisers are kept
_TEXT = 4  # bytes of a token's text, about
_ROW = 4000  # bytes of a step's rows beside its completions, about
_BESIDE = 500  # bytes of a completion's row beside its text, about


@dataclass(frozen=True)
class Room:
    """Bytes of one run.

    Args:
      adapter: of the adapter's weights; None when the model's files are not on this machine.
      checkpoints: how many stay at most, one being written included.
      logs: of all steps together.
      logs_measured: whether that is judged by earlier runs; else it is the most, for completions
        that are all as long as is allowed.
    """

    adapter: int | None
    checkpoints: int
    logs: int
    logs_measured: bool

    @property
    def total(self) -> int | None:
        """A checkpoint holds the adapter, and its weights and both moments for the optimiser."""
        if self.adapter is None:
            return None
        return (4 * self.checkpoints + 1) * self.adapter + self.logs


def room_of(config: RunConfig, pilot: Sequence[PilotRun] = ()) -> Room:
    """The room that a run needs, the evaluations' questions left out.

    Args:
      config: of the run.
      pilot: earlier runs with the same batches.
    """
    training = config.training
    if pilot:
        steps = sum(run.step_s.size for run in pilot)
        a_step = sum(run.log_bytes for run in pilot) / steps
    else:
        completions = training.batch_size * training.group_size
        a_step = completions * (_TEXT * training.max_tokens + _BESIDE) + _ROW
    saved = -(-training.max_steps // training.save_every)
    best = bool(config.eval.every and training.keep_best)
    at_service = config.backend.backend == "tinker"
    return Room(
        adapter=adapter_bytes(config.model.model, config.model.lora_rank),
        checkpoints=0 if at_service else min(training.keep_last, saved) + best + 1,
        logs=round(a_step * training.max_steps),
        logs_measured=bool(pilot),
    )


def size(count: float) -> str:
    """Bytes as a person says them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def adapter_bytes(model: str, rank: int) -> int | None:
    """Bytes of a LoRA adapter of the query, key, value, output, gate, up and down projections.

        4 rank sum over layers and projections of (d_in + d_out)

    None when the model's `config.json` is not on this machine, or describes another kind of model.
    """
    path = _config_file(model)
    if path is None or not path.is_file():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    found = found.get("text_config", found)
    try:
        hidden, inner = int(found["hidden_size"]), int(found["intermediate_size"])
        layers, heads = int(found["num_hidden_layers"]), int(found["num_attention_heads"])
    except (KeyError, TypeError, ValueError):  # a border: other people's files
        return None
    width = int(found.get("head_dim") or hidden // heads)
    queries, keys = heads * width, int(found.get("num_key_value_heads") or heads) * width
    sides = 2 * (hidden + queries) + 2 * (hidden + keys) + 3 * (hidden + inner)
    return _FLOAT * rank * layers * sides


def _config_file(model: str) -> Path | None:
    directory = Path(resolve_model(model)).expanduser()
    if directory.is_dir():
        return directory / "config.json"
    cached = try_to_load_from_cache(model, "config.json")
    return Path(cached) if isinstance(cached, str) else None
