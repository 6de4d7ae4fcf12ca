"""Attention kernels for sampling, in place of `scaled_dot_product_attention`.

They compute the same for the layouts `Prefill` and `Decode`. Training always uses the default.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import flex_attention
from torch.nn.functional import scaled_dot_product_attention

from retrain_backends.dotted_names import load_object
from retrain_backends.errors import ConfigError

Compute: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor | None, bool, float | None], Tensor]


@dataclass(frozen=True)
class AttentionKernel:
    """A kernel by its name in `inference.attention_kernel`.

    `compute(query, key, value, mask, causal, scaling)` gets tensors (rows, heads, tokens, width),
    and a mask that is added to the scores: (rows, 1, 1, keys), (tokens, keys), or None.
    """

    name: str
    compute: Compute


def attention_kernel(name: str) -> AttentionKernel | None:
    """The kernel of that name; None for `default`."""
    return AttentionKernel(name, _MAKE[name]()) if name in _MAKE else None


def _memory_efficient() -> Compute:
    """The memory-efficient kernel of PyTorch, which is written with CUTLASS."""

    def compute(query, key, value, mask, causal, scaling):
        with sdpa_kernel(SDPBackend.EFFICIENT_ATTENTION):
            return scaled_dot_product_attention(
                query, key, value, attn_mask=mask, is_causal=causal, scale=scaling
            )

    return compute


def _flex() -> Compute:
    """FlexAttention, which PyTorch compiles to Triton on a GPU and to C++ on the CPU."""
    by_row = torch.compile(_by_row, dynamic=True)
    by_position = torch.compile(_by_position, dynamic=True)
    causally = torch.compile(_causally, dynamic=True)
    full: Any = torch.compile(flex_attention, dynamic=True)

    def compute(query, key, value, mask, causal, scaling):
        if mask is not None and mask.dim() == 4:  # the same for all queries of a row
            return by_row(query, key, value, mask[:, 0, 0], scaling)
        if mask is not None:
            return by_position(query, key, value, mask, scaling)
        if causal:
            return causally(query, key, value, scaling)
        return full(query, key, value, scale=scaling)

    return compute


def _by_row(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, scaling: float | None):
    def add(score, row, _head, _query, position):
        return score + bias[row, position]

    return flex_attention(query, key, value, score_mod=add, scale=scaling)


def _by_position(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, scaling: float | None):
    def add(score, _row, _head, token, position):
        return score + bias[token, position]

    return flex_attention(query, key, value, score_mod=add, scale=scaling)


def _causally(query: Tensor, key: Tensor, value: Tensor, scaling: float | None):
    def earlier(score, _row, _head, token, position):
        return torch.where(token >= position, score, -torch.inf)

    return flex_attention(query, key, value, score_mod=earlier, scale=scaling)


def _flash() -> Compute:
    """FlashAttention as it comes with PyTorch; the keys that a row may see are packed for it."""
    varlen = load_object("torch.nn.attention.varlen:varlen_attn")

    def compute(query, key, value, mask, causal, scaling):
        if mask is not None and mask.dim() == 2:
            raise ConfigError(
                "inference.attention_kernel: `flash` is used without sliding windows here, and the"
                " layers of this model have them; use `default`, `triton` or `cutlass`"
            )
        rows, _, tokens, _ = query.shape
        keys = key.shape[2]
        seen = None if mask is None else mask[:, 0, 0] == 0
        lengths = torch.full((rows,), keys, device=key.device) if seen is None else seen.sum(-1)
        queries = torch.full((rows,), tokens, device=query.device)
        out = varlen(
            query.transpose(1, 2).flatten(0, 1),
            _packed(key, seen),
            _packed(value, seen),
            _offsets(queries),
            _offsets(lengths),
            tokens,
            keys,
            scale=scaling,
            window_size=(-1, 0) if causal else (-1, -1),
        )
        return out.unflatten(0, (rows, tokens)).transpose(1, 2)

    return compute


def _packed(x: Tensor, seen: Tensor | None) -> Tensor:
    """Keys or values of all rows (t, heads, width), without those that are not seen."""
    by_row = x.transpose(1, 2)
    return by_row.flatten(0, 1) if seen is None else by_row[seen]


def _offsets(lengths: Tensor) -> Tensor:
    return torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)


_MAKE: dict[str, Callable[[], Compute]] = {
    "cutlass": _memory_efficient,
    "flash": _flash,
    "triton": _flex,
}
