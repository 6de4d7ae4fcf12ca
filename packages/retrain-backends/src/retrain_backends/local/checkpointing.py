"""Gradient checkpointing: the backward pass recomputes each block from its input."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from retrain_backends.errors import ConfigError


class _Checkpointed:
    """The `forward` of one block."""

    def __init__(self, forward: Callable[..., Any]) -> None:
        self.forward = forward

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if torch.is_grad_enabled():
            return checkpoint(self.forward, *args, use_reentrant=False, **kwargs)
        return self.forward(*args, **kwargs)


def checkpoint_blocks(model: nn.Module, name: str) -> None:
    """Checkpoint every block of a transformers model.

    transformers checkpoints in training mode only, which also enables the model's own dropout and
    router noise. The model stays in evaluation mode here.

    Args:
      model: the model.
      name: of the model, for the error message.

    Raises:
      ConfigError: the architecture has no blocks that can be recomputed.
    """
    blocks = [part for part in model.modules() if isinstance(part, GradientCheckpointingLayer)]
    if not blocks:
        raise ConfigError(
            f"backend.options.gradient_checkpointing: the architecture of `{name}` does not support"
            " it; set it to false"
        )
    for block in blocks:
        block.forward = _Checkpointed(block.forward)
