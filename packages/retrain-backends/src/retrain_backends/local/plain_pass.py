"""The reference of the self-test: a batch through the model as transformers and PEFT run it.

Eager attention, a row for each completion with its own prompt, no cache, each linear layer by
itself, and `scale * B A x` added to its output.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from retrain_backends.local import attention
from retrain_backends.local.adapter import Adapter
from retrain_backends.local.base_model import BaseModel
from retrain_backends.local.loss import surrogate
from retrain_backends.types import Floats, TrainBatch
from retrain_core import LossOptions


@dataclass(frozen=True)
class Outcome:
    """Log-probs of a batch's tokens, and the gradient of each tensor of the adapter."""

    logprobs_t: Floats
    gradient: Mapping[str, Tensor]


def plain_pass(base: BaseModel, adapter: Adapter, batch: TrainBatch, rounding: float) -> Outcome:
    """Forward and backward pass of a batch.

    Args:
      base: the model.
      adapter: its weights become those of the gradient.
      batch: at temperature 1, all of its tokens trained.
      rounding: relative size of random changes to the outputs of the linear layers.
    """
    adapter.gradient.zero_()
    with _as_in_transformers(base, adapter, rounding), torch.enable_grad():
        new = _logprobs(base.model, batch, base.device)
        old, advantages = (
            torch.as_tensor(values, dtype=torch.float32, device=base.device)
            for values in (batch.logprobs_t, batch.weighted_advantages_t)
        )
        terms, _ = surrogate(new, old, advantages, LossOptions())
        (-terms.sum() / len(new)).backward()
    return Outcome(new.detach().double().cpu().numpy(), adapter.gradient_state())


def _logprobs(model: Any, batch: TrainBatch, device: torch.device) -> Tensor:
    """Log-probs of the completions' tokens, shape (t,); rows are padded on the right."""
    group_of = np.repeat(np.arange(len(batch.prompts)), np.diff(batch.group_offsets_g))
    completions = np.split(batch.tokens_t, batch.token_offsets_n[1:-1])
    prompts = [batch.prompts[int(group)] for group in group_of]
    texts = [np.concatenate(parts) for parts in zip(prompts, completions, strict=True)]
    padded = np.zeros((len(texts), max(map(len, texts))), dtype=np.int64)
    for row, text in zip(padded, texts, strict=True):
        row[: len(text)] = text
    tokens = torch.from_numpy(padded).to(device)
    logprobs = model(input_ids=tokens, use_cache=False).logits.float().log_softmax(-1)
    chosen = logprobs[:, :-1].gather(-1, tokens[:, 1:, None])[..., 0]
    return torch.cat(
        [
            row[len(prompt) - 1 : len(text) - 1]
            for row, prompt, text in zip(chosen, prompts, texts, strict=True)
        ]
    )


@contextmanager
def _as_in_transformers(base: BaseModel, adapter: Adapter, rounding: float) -> Iterator[None]:
    generator = torch.Generator(base.device).manual_seed(0)
    with ExitStack() as stack:
        base.model.set_attn_implementation("eager")
        stack.callback(base.model.set_attn_implementation, attention.NAME)
        for index, projection in enumerate(base.projections):
            factors = adapter.factors(index)
            parts = factors.a.split(adapter.rank)
            for layer, a, b in zip(projection.layers, parts, factors.b, strict=True):
                stack.callback(setattr, layer, "forward", layer.forward)
                del layer.forward  # that of the class is left
                add = _Lora(a, b, factors.scale, rounding, generator)
                stack.callback(layer.register_forward_hook(add).remove)
        yield


@dataclass(frozen=True)
class _Lora:
    """A hook that adds a LoRA product to a layer's output, and changes its rounding."""

    a: Tensor
    b: Tensor
    scale: float
    rounding: float
    generator: torch.Generator

    def __call__(self, _layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        (x,) = inputs
        output = output + self.scale * (x @ self.a.to(x.dtype).t()) @ self.b.to(x.dtype).t()
        if not self.rounding:
            return output
        noise = torch.rand(output.shape, generator=self.generator, device=output.device) - 0.5
        return (output * (1 + self.rounding * noise)).to(output.dtype)
