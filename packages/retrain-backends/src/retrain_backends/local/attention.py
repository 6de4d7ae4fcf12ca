"""Attention over groups that share their prompt.

A prompt's keys and values are computed once and read by all completions of its group, in sampling
and in training. The models of transformers call `attend` through their attention interface, and
pass on the layout of the rows (`layouts.py`).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from retrain_backends.errors import ConfigError
from retrain_backends.local.attention_kernels import AttentionKernel
from retrain_backends.local.layouts import Decode, Packed, Prefill

NAME = "retrain_shared_prompt"


@dataclass(frozen=True)
class _Layer:
    """What distinguishes the attention of a layer.

    `scaling` of the scores is 1 / sqrt(width) if None. `softcap` bounds them to
    `softcap * tanh(scores / softcap)`. `sinks` (heads,) are the scores of one more key for each
    head, whose value is zero. `kernel` is None for the default one.
    """

    scaling: float | None
    window: int | None
    softcap: float | None
    sinks: Tensor | None
    kernel: AttentionKernel | None = None

    def attention(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool = False
    ) -> Tensor:
        """The output (b, heads, t, d) for masked scores; `causal` is a mask of its own."""
        mask = None if mask is None else mask.to(query.dtype)
        if self.kernel is not None:
            self._refuse_special(self.kernel.name)
            return self.kernel.compute(query, key, value, mask, causal, self.scaling)
        if self.softcap is None and self.sinks is None:
            return scaled_dot_product_attention(
                query, key, value, attn_mask=mask, is_causal=causal, scale=self.scaling
            )
        scaling = query.shape[-1] ** -0.5 if self.scaling is None else self.scaling
        scores = (query @ key.transpose(2, 3)).float() * scaling
        if self.softcap is not None:
            scores = self.softcap * torch.tanh(scores / self.softcap)
        if causal:
            later = torch.ones(scores.shape[2:], dtype=torch.bool, device=scores.device).triu(1)
            scores = scores.masked_fill(later, -torch.inf)
        if mask is not None:
            scores = scores + mask
        if self.sinks is None:
            return scores.softmax(-1).to(value.dtype) @ value
        # In decoding the heads that share a key stand in the place of the tokens.
        sinks = self.sinks.float().view(query.shape[1], -1, 1).expand(*scores.shape[:3], 1)
        weights = torch.cat([scores, sinks], dim=-1).softmax(-1)[..., :-1]
        return weights.to(value.dtype) @ value

    def _refuse_special(self, kernel: str) -> None:
        if self.softcap is not None or self.sinks is not None:
            raise ConfigError(
                f"inference.attention_kernel: `{kernel}` has neither attention sinks nor a bound on"
                " the scores, and the layers of this model have; use `default`"
            )


class _Pad(torch.autograd.Function):
    """Padded rows from a flat (t, w) tensor; the padding gets no gradient."""

    @staticmethod
    def forward(ctx, flat, where, inverse):
        ctx.save_for_backward(inverse)
        return flat.index_select(0, where)

    @staticmethod
    def backward(ctx, grad):  # pyright: ignore[reportIncompatibleMethodOverride]
        (inverse,) = ctx.saved_tensors
        return grad.index_select(0, inverse), None, None


class _Unpad(torch.autograd.Function):
    """The inverse of `_Pad`: padded rows back to the flat tensor."""

    @staticmethod
    def forward(ctx, padded, inverse):
        ctx.save_for_backward(inverse)
        ctx.rows = padded.shape[0]
        return padded.index_select(0, inverse)

    @staticmethod
    def backward(ctx, grad):  # pyright: ignore[reportIncompatibleMethodOverride]
        (inverse,) = ctx.saved_tensors
        out = grad.new_zeros(ctx.rows, grad.shape[1])
        return out.index_copy_(0, inverse, grad), None


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    layout: Prefill | Decode | Packed | None = None,
    scaling: float | None = None,
    **settings: Any,
) -> tuple[Tensor, None]:
    """Attention of one layer, from the query (b, heads, t, d) to the output (b, t, heads, d)."""
    del module, attention_mask  # the layout has the mask
    if layout is None:
        raise TypeError("its layers do not pass keyword arguments on to their attention")
    layer = _Layer(
        scaling,
        settings.get("sliding_window"),
        settings.get("softcap"),
        settings.get("s_aux"),
        None if isinstance(layout, Packed) else layout.kernel,
    )
    if isinstance(layout, Packed):
        return _attend_packed(query, key, value, layer, layout), None
    if isinstance(layout, Decode):
        return _attend_decode(query, key, value, layer, layout), None
    key, value = _each_head(key, query.shape[1]), _each_head(value, query.shape[1])
    mask = layout.mask(layer.window, query)
    return layer.attention(query, key, value, mask, causal=mask is None).transpose(1, 2), None


def _attend_decode(
    query: Tensor, key: Tensor, value: Tensor, layer: _Layer, layout: Decode
) -> Tensor:
    """Query heads that share a key head become its query positions, so that no key is copied."""
    rows, heads, _, width = query.shape
    grouped = query.reshape(rows, key.shape[1], heads // key.shape[1], width)
    out = layer.attention(grouped, key, value, layout.mask(layer.window, key.shape[2]))
    return out.reshape(rows, 1, heads, value.shape[-1])


def _attend_packed(
    query: Tensor, key: Tensor, value: Tensor, layer: _Layer, layout: Packed
) -> Tensor:
    _, heads, tokens, _ = query.shape
    where = torch.cat([layout.prompts.flatten(), layout.completions.flatten()])
    split = [layout.prompts.numel(), layout.completions.numel()]

    def padded(x: Tensor) -> tuple[Tensor, Tensor]:
        flat = x[0].transpose(0, 1).reshape(tokens, -1)
        prompts, completions = _Pad.apply(flat, where, layout.inverse).split(split)  # pyright: ignore
        heads_and_width = x.shape[1], x.shape[3]
        return (
            prompts.view(*layout.prompts.shape, *heads_and_width).transpose(1, 2),
            completions.view(*layout.completions.shape, *heads_and_width).transpose(1, 2),
        )

    prompt_q, completion_q = padded(query)
    prompt_k, completion_k = padded(_each_head(key, heads))
    prompt_v, completion_v = padded(_each_head(value, heads))
    prompt_mask = layout.prompt_mask(layer.window, prompt_q)
    prompt_out = layer.attention(
        prompt_q, prompt_k, prompt_v, prompt_mask, causal=prompt_mask is None
    )
    completion_out = layer.attention(
        completion_q,
        torch.cat([prompt_k.index_select(0, layout.prompt_of), completion_k], dim=2),
        torch.cat([prompt_v.index_select(0, layout.prompt_of), completion_v], dim=2),
        layout.completion_mask(layer.window),
    )
    width = heads * value.shape[-1]
    rows = [out.transpose(1, 2).reshape(-1, width) for out in (prompt_out, completion_out)]
    flat = _Unpad.apply(torch.cat(rows), layout.inverse)
    return flat.view(1, tokens, heads, -1)  # pyright: ignore


def _each_head(x: Tensor, heads: int) -> Tensor:
    """Repeat key or value heads so that every query head has its own."""
    repeats = heads // x.shape[1]
    return x if repeats == 1 else x.repeat_interleave(repeats, dim=1)


AttentionInterface.register(NAME, attend)
