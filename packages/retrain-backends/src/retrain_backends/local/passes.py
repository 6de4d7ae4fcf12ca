"""Forward and backward passes of a batch, in micro-batches, with the adapter that is attached."""

import numpy as np
import torch

from retrain_backends.local.base_model import BaseModel
from retrain_backends.local.loss import head_logprobs, head_loss
from retrain_backends.local.packing import MicroBatch, pack, plan
from retrain_backends.types import Floats, TrainBatch
from retrain_core import LossOptions


def add_gradient(
    base: BaseModel, batch: TrainBatch, options: LossOptions, budget: int, num_tokens: int
) -> tuple[float, Floats]:
    """Add the gradient of a batch to the adapter's.

    Args:
      base: the model, with the adapter attached.
      batch: to train on.
      options: of the loss.
      budget: input tokens of a micro-batch.
      num_tokens: by which the loss is divided.

    Returns:
      The loss, and the log-probs of all tokens; 0 for those that are not trained.
    """
    loss, new = 0.0, np.zeros(len(batch.tokens_t))
    for rows in plan(batch, budget):
        micro = pack(batch, rows, options, num_tokens, base.device)
        part, logprobs = head_loss(_hidden(base, micro), base.head, micro.trained)
        part.backward()
        loss += float(part.detach())
        new[micro.source] = logprobs.double().cpu().numpy()
    return loss, new


def score(base: BaseModel, batch: TrainBatch, options: LossOptions, budget: int) -> Floats:
    """The log-probs of all tokens, without a gradient; arguments as for `add_gradient`."""
    logprobs_t = np.zeros(len(batch.tokens_t))
    with torch.no_grad():
        for rows in plan(batch, budget):
            micro = pack(batch, rows, options, 1, base.device)
            hidden, targets = _hidden(base, micro), micro.trained.targets
            logprobs = head_logprobs(hidden, base.head, targets, options.temperature)
            logprobs_t[micro.source] = logprobs.double().cpu().numpy()
    return logprobs_t


def _hidden(base: BaseModel, micro: MicroBatch) -> torch.Tensor:
    """Last hidden states of the positions that predict trained tokens, shape (m, width)."""
    hidden = base.hidden(micro.tokens, micro.positions, micro.layout)[0]
    return hidden.index_select(0, micro.predictors)
