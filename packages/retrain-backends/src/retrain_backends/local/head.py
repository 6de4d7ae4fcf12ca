"""The output embedding, and what some models do to its logits."""

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Head:
    """Logits from hidden states: `z = scale * (W h + b)`, bounded to `softcap * tanh(z / softcap)`.

    `scale` is 1 and `softcap` None in most models.
    """

    layer: nn.Linear
    scale: float = 1.0
    softcap: float | None = None

    @classmethod
    def of(cls, model: Any) -> Self:
        """The head of a model of transformers."""
        config = model.config.get_text_config()
        scale = getattr(config, "logit_scale", None) or 1.0  # Cohere
        scaling = getattr(config, "logits_scaling", None) or 1.0  # Granite
        softcap = getattr(config, "final_logit_softcapping", None)  # Gemma 2
        return cls(model.get_output_embeddings(), scale / scaling, softcap)

    def logits(self, hidden: Tensor) -> Tensor:
        """Next-token logits in float32, shape (..., vocabulary)."""
        logits = functional.linear(hidden, self.layer.weight, self.layer.bias).float()
        if self.scale != 1:
            logits = logits * self.scale
        if self.softcap is not None:
            logits = self.softcap * torch.tanh(logits / self.softcap)
        return logits

    def slope(self, logits: Tensor) -> Tensor | float | None:
        """The derivative of the logits with respect to `W h + b`; None is 1."""
        if self.softcap is None:
            return None if self.scale == 1 else self.scale
        return self.scale * (1 - (logits / self.softcap).square())
