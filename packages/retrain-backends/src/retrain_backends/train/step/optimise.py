"""The optimiser step; a batch with a non-finite loss or gradient is saved for inspection."""

from pathlib import Path
from typing import Any

import numpy as np

from retrain_backends.train.step.overlap import StepTrainer
from retrain_backends.types import StepResult, TrainBatch


def optimise(trainer: StepTrainer, batch: TrainBatch, dumps: Path) -> StepResult | None:
    """Take one optimiser step on the batch; returns None if no token is to be trained.

    If the loss or the gradient is not finite, the trainer takes no step and the batch is saved.

    Args:
      trainer: of the policy, or the step that it has begun.
      batch: the informative completions of the step.
      dumps: directory for batches with a non-finite loss or gradient.
    """
    if not batch.trained_t.any():
        return None
    result = trainer.train(batch)
    if not result.is_finite:
        _dump(batch, dumps)
    return result


def dump_path(dumps: Path, step: int) -> Path:
    """The file in which the batch of a non-finite step is saved."""
    return dumps / f"step_{step:06d}.npz"


def _dump(batch: TrainBatch, dumps: Path) -> None:
    dumps.mkdir(exist_ok=True)
    fields = {
        name: value
        for name, value in vars(batch).items()
        if name != "prompts" and value is not None
    }
    arrays: dict[str, Any] = {
        "prompt_tokens": np.concatenate(batch.prompts),
        "prompt_lengths": np.array([len(prompt) for prompt in batch.prompts]),
        **fields,
    }
    np.savez(dump_path(dumps, batch.step), **arrays)
