"""The optimiser step, and what keeps a bad one from passing unseen."""

from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from retrain_backends.errors import RunError
from retrain_backends.protocols import Backend
from retrain_backends.types import StepResult, TrainBatch


def optimise(backend: Backend, batch: TrainBatch, dumps: Path) -> StepResult | None:
    """One optimiser step on the batch; None, and no step, when it has nothing to train on.

    Args:
      backend: what is trained.
      batch: the informative completions of the step.
      dumps: directory for a batch that went wrong.

    Raises:
      RunError: the loss or the gradient is not finite. The backend has then taken no step, and the
        batch lies in `dumps`.
    """
    if not batch.trained_t.any():
        return None
    result = backend.train_step(batch)
    if isfinite(result.loss) and isfinite(result.grad_norm):
        return result
    dump = _dump(batch, dumps)
    raise RunError(
        f"step {batch.step}: the loss is {result.loss} and the norm of its gradient "
        f"{result.grad_norm}, so no optimiser step was taken; the batch is in {dump}, and a lower "
        "training.lr is the first thing to try"
    )


def _dump(batch: TrainBatch, directory: Path) -> Path:
    directory.mkdir(exist_ok=True)
    path = directory / f"step_{batch.step:06d}.npz"
    fields = {name: value for name, value in vars(batch).items() if name != "prompts"}
    arrays: dict[str, Any] = {
        "prompt_tokens": np.concatenate(batch.prompts),
        "prompt_lengths": np.array([len(prompt) for prompt in batch.prompts]),
        **fields,
    }
    np.savez(path, **arrays)
    return path
