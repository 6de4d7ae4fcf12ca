"""Attention over groups that share their prompt.

A prompt's keys and values are computed once and read by all completions of its group, in sampling
and in training. The models of transformers call `attend` through their attention interface, and
pass on the `layout` of the rows:

- `Prefill`: one prompt per row, padded on the right;
- `Decode`: one new token per row, after its prompt and the tokens sampled so far;
- `Packed`: one row with the prompts of a micro-batch and all of their completions, without padding,
  for training.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from retrain_backends.errors import ModelError

NAME = "retrain_shared_prompt"


@dataclass(frozen=True)
class Prefill:
    """One prompt per row, padded on the right: causal attention."""


@dataclass(frozen=True)
class Decode:
    """One token per row; `bias` (rows, 1, 1, keys) is -inf on the padding of the prompts."""

    bias: Tensor | None


@dataclass(frozen=True)
class Packed:
    """Positions of the prompts and completions of a micro-batch in its single row of `t` tokens.

    `prompts` (p, P) and `completions` (c, C) hold positions in the row, padded with any position;
    `inverse` (t,) is the index of each token in their concatenation (p*P + c*C). `prompt_of` (c,)
    is the prompt of each completion. `bias` (c, 1, C, P + C) is 0 where a completion's token may
    attend (its prompt, its own tokens up to itself) and -inf elsewhere.
    """

    prompts: Tensor
    completions: Tensor
    inverse: Tensor
    prompt_of: Tensor
    bias: Tensor


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
    scaling: float,
    layout: Prefill | Decode | Packed,
    dropout: float = 0.0,
    **settings: Any,
) -> tuple[Tensor, None]:
    """Attention of one layer, from the query (b, heads, t, d) to the output (b, t, heads, d)."""
    _refuse_unsupported(settings, key.shape[-2])
    del module, attention_mask, dropout  # training runs the blocks as sampling does
    if isinstance(layout, Packed):
        return _attend_packed(query, key, value, scaling, layout), None
    if isinstance(layout, Decode):
        return _attend_decode(query, key, value, scaling, layout), None
    key, value = _each_head(key, query.shape[1]), _each_head(value, query.shape[1])
    out = scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling)
    return out.transpose(1, 2), None


def _attend_decode(
    query: Tensor, key: Tensor, value: Tensor, scaling: float, layout: Decode
) -> Tensor:
    """Query heads that share a key head become its query positions, so that no key is copied."""
    rows, heads, _, width = query.shape
    grouped = query.reshape(rows, key.shape[1], heads // key.shape[1], width)
    bias = None if layout.bias is None else layout.bias[..., : key.shape[2]].to(query.dtype)
    out = scaled_dot_product_attention(grouped, key, value, attn_mask=bias, scale=scaling)
    return out.reshape(rows, 1, heads, width)


def _attend_packed(
    query: Tensor, key: Tensor, value: Tensor, scaling: float, layout: Packed
) -> Tensor:
    _, heads, tokens, width = query.shape
    where = torch.cat([layout.prompts.flatten(), layout.completions.flatten()])
    split = [layout.prompts.numel(), layout.completions.numel()]

    def padded(x: Tensor) -> tuple[Tensor, Tensor]:
        flat = x[0].transpose(0, 1).reshape(tokens, -1)
        prompts, completions = _Pad.apply(flat, where, layout.inverse).split(split)  # pyright: ignore
        shape = (-1, x.shape[1], width)
        return (
            prompts.view(*layout.prompts.shape, *shape[1:]).transpose(1, 2),
            completions.view(*layout.completions.shape, *shape[1:]).transpose(1, 2),
        )

    prompt_q, completion_q = padded(query)
    prompt_k, completion_k = padded(_each_head(key, heads))
    prompt_v, completion_v = padded(_each_head(value, heads))
    prompt_out = scaled_dot_product_attention(
        prompt_q, prompt_k, prompt_v, is_causal=True, scale=scaling
    )
    completion_out = scaled_dot_product_attention(
        completion_q,
        torch.cat([prompt_k.index_select(0, layout.prompt_of), completion_k], dim=2),
        torch.cat([prompt_v.index_select(0, layout.prompt_of), completion_v], dim=2),
        attn_mask=layout.bias.to(query.dtype),
        scale=scaling,
    )
    rows = [out.transpose(1, 2).reshape(-1, heads * width) for out in (prompt_out, completion_out)]
    flat = _Unpad.apply(torch.cat(rows), layout.inverse)
    return flat.view(1, tokens, heads, width)  # pyright: ignore


def _each_head(x: Tensor, heads: int) -> Tensor:
    """Repeat key or value heads so that every query head has its own."""
    repeats = heads // x.shape[1]
    return x if repeats == 1 else x.repeat_interleave(repeats, dim=1)


def _refuse_unsupported(settings: dict[str, Any], keys: int) -> None:
    window = settings.get("sliding_window")
    if window is not None and keys > window:
        raise ModelError(
            f"this model attends to {window} tokens only (sliding window), and the text has {keys}:"
            " the local backend supports full attention only; lower training.max_tokens"
        )
    for setting in ("softcap", "s_aux"):
        if settings.get(setting) is not None:
            raise ModelError(
                f"this model's attention uses `{setting}`, which the local backend does not support"
            )


AttentionInterface.register(NAME, attend)
