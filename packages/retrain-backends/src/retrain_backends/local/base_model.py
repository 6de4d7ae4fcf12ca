"""A frozen causal language model, to which adapters are attached.

A `BaseModel` holds weights that never change, an `Adapter` (`adapter.py`) those that are trained,
and `attach` sets the adapter that the model uses.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from retrain_backends.errors import ModelError
from retrain_backends.local.adapter import Adapter
from retrain_backends.local.fused_lora import find_projections
from retrain_backends.local.head import Head
from retrain_backends.local.weights import load_model


class BaseModel:
    """A frozen model on one device, with its linear layers grouped into projections."""

    def __init__(self, source: str, name: str, device: torch.device, dtype: torch.dtype) -> None:
        self.name = name
        self.device = device
        self.dtype = dtype
        self._merges = dtype == torch.float32
        model = load_model(source, name, device, dtype).eval().requires_grad_(False)
        self.model = model
        self.backbone: Any = model.base_model
        self.head = Head.of(model)
        self.projections = find_projections(model, self.head.layer)
        if not self.projections:
            raise ModelError(f"model `{name}` has no linear layers that a LoRA adapter could train")

    def attach(self, adapter: Adapter | None) -> None:
        """Use `adapter`; None detaches it."""
        for i, projection in enumerate(self.projections):
            projection.factors = None if adapter is None else adapter.factors(i)

    def replace_weights(self, replacement: Callable[[Tensor], Tensor]) -> None:
        """Use other weights in the linear layers, except the head; only to sample from then on."""
        for projection in self.projections:
            projection.replace_weight(replacement)
        self._merges = False

    @contextmanager
    def merged(self) -> Iterator[None]:
        """Merge the attached adapter into copies of the weights while the context is open.

        In float32 this takes one copy of the linear weights and saves the LoRA products of every
        decoding step. In lower precision, rounding would lose the adapter, so nothing is merged.
        """
        projections = self.projections if self._merges else []
        for projection in projections:
            projection.merge()
        try:
            yield
        finally:
            for projection in projections:
                projection.unmerge()

    def hidden(self, tokens: Tensor, positions: Tensor, layout: Any, cache: Any = None) -> Tensor:
        """Last hidden states (rows, tokens, width); `layout` as in `layouts.py`."""
        return self.backbone(
            input_ids=tokens,
            position_ids=positions,
            past_key_values=cache,
            use_cache=cache is not None,
            layout=layout,
        ).last_hidden_state

    def logits(self, hidden: Tensor) -> Tensor:
        """Next-token logits in float32, shape (..., vocabulary)."""
        return self.head.logits(hidden)
