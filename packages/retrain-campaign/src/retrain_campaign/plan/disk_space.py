"""Estimates the disk space that a run needs."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache

from retrain_backends.config import RunConfig
from retrain_backends.tokenizer import resolve_model

_FLOAT_BYTES = 4  # adapters and their optimiser states are float32
# Typical sizes in the logs.
_TOKEN_BYTES = 4  # the text of a token
_STEP_BYTES = 4000  # the rows of a step, without its completions
_COMPLETION_BYTES = 500  # the row of a completion, without its text


@dataclass(frozen=True)
class DiskSpace:
    """Disk space of one run, in bytes.

    Args:
      adapter: the adapter's weights; None if the model's files are not on this machine.
      checkpoints: largest number of checkpoints at any time, including one being written.
      logs: the logs of all steps.
      logs_measured: whether `logs` is based on earlier runs; otherwise it is an upper bound, for
        completions of the maximum length.
    """

    adapter: int | None
    checkpoints: int
    logs: int
    logs_measured: bool

    @property
    def total(self) -> int | None:
        """All of it; a checkpoint holds the adapter and, for the optimiser, weights and moments."""
        if self.adapter is None:
            return None
        return (4 * self.checkpoints + 1) * self.adapter + self.logs


def disk_space_of(config: RunConfig, log_bytes: float | None = None) -> DiskSpace:
    """The disk space of a run, without the questions of evaluations.

    Args:
      config: of the run.
      log_bytes: mean size of a step's logs in earlier runs; None if it was not measured.
    """
    training = config.training
    step_bytes = log_bytes
    if step_bytes is None:
        completions = training.batch_size * training.group_size
        completion_bytes = _TOKEN_BYTES * training.max_tokens + _COMPLETION_BYTES
        step_bytes = completions * completion_bytes + _STEP_BYTES
    saved = -(-training.max_steps // training.save_every)
    best = bool(config.eval.every and training.keep_best)
    at_service = config.backend.backend == "tinker"
    return DiskSpace(
        adapter=adapter_bytes(config.model.model, config.model.lora_rank),
        checkpoints=0 if at_service else min(training.keep_last, saved) + best + 1,
        logs=round(step_bytes * training.max_steps),
        logs_measured=log_bytes is not None,
    )


def format_bytes(count: float) -> str:
    """A number of bytes with three digits and a unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def adapter_bytes(model: str, rank: int) -> int | None:
    """Bytes of a LoRA adapter of the query, key, value, output, gate, up and down projections.

        4 rank sum over layers and projections of (d_in + d_out)

    None if the model's `config.json` is not on this machine, or lacks these sizes.
    """
    path = _config_file(model)
    if path is None or not path.is_file():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    found = found.get("text_config", found)
    try:
        hidden, inner = int(found["hidden_size"]), int(found["intermediate_size"])
        layers, heads = int(found["num_hidden_layers"]), int(found["num_attention_heads"])
    except (KeyError, TypeError, ValueError):  # a border: files of other programs
        return None
    width = int(found.get("head_dim") or hidden // heads)
    queries, keys = heads * width, int(found.get("num_key_value_heads") or heads) * width
    sides = 2 * (hidden + queries) + 2 * (hidden + keys) + 3 * (hidden + inner)
    return _FLOAT_BYTES * rank * layers * sides


def _config_file(model: str) -> Path | None:
    directory = Path(resolve_model(model)).expanduser()
    if directory.is_dir():
        return directory / "config.json"
    cached = try_to_load_from_cache(model, "config.json")
    return Path(cached) if isinstance(cached, str) else None
