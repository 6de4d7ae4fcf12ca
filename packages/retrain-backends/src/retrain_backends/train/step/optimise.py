"""The optimiser step, and what keeps a bad one from passing unseen."""

from pathlib import Path
from typing import Any

import numpy as np

from retrain_backends.protocols import Trainer
from retrain_backends.types import StepResult, TrainBatch


def optimise(trainer: Trainer, batch: TrainBatch, dumps: Path) -> StepResult | None:
    """One optimiser step on the batch; None, and no step, when it has nothing to train on.

    When the loss or the gradient is not finite the trainer has taken no step either; the result
    says so, and the batch is kept for a look at it.

    Args:
      trainer: of the policy.
      batch: the informative completions of the step.
      dumps: directory for a batch that went wrong.
    """
    if not batch.trained_t.any():
        return None
    result = trainer.train(batch)
    if not result.is_finite:
        _dump(batch, dumps)
    return result


def dump_path(dumps: Path, step: int) -> Path:
    """Where the batch of a step that went wrong lies."""
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
