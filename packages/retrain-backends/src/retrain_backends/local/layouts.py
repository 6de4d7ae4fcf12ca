"""Layouts: which tokens the rows of a forward pass have, and which of them a token may attend to.

- `Prefill`: one prompt per row, padded on the right;
- `Decode`: one new token per row, after its prompt and the tokens sampled so far;
- `Packed`: one row with the prompts of a micro-batch and all of their completions, without padding,
  for training.

A mask is added to the scores: 0 where a token may attend and -inf elsewhere. A layer with a sliding
window attends to the last `window` tokens only, its own included; None is full attention. A layout
is made for one pass, so it computes the mask of a window once for all layers. Those of sampling
name the kernel of its attention; None is the default.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from retrain_backends.local.attention_kernels import AttentionKernel


@dataclass(frozen=True)
class Prefill:
    """One prompt per row, padded on the right: causal attention."""

    kernel: AttentionKernel | None = None
    masks: dict[int, Tensor] = field(default_factory=dict)

    def mask(self, window: int | None, query: Tensor) -> Tensor | None:
        """Shape (tokens, tokens); None stands for plain causal attention."""
        return _causal(self.masks, window, query)


@dataclass(frozen=True)
class Decode:
    """One token per row, at `position` (rows,), behind a prompt of at most `prompt_width` tokens.

    `bias` (rows, 1, 1, keys) is -inf on the padding of the prompts; None without padding.
    """

    bias: Tensor | None
    position: Tensor
    prompt_width: int
    kernel: AttentionKernel | None = None
    masks: dict[int, Tensor] = field(default_factory=dict)

    def mask(self, window: int | None, keys: int) -> Tensor | None:
        """Shape (rows, 1, 1, keys); None if every key may be attended to."""
        bias = None if self.bias is None else self.bias[..., :keys]
        if window is None or keys <= window:
            return bias
        if window not in self.masks:
            # Sampled tokens end with the query's own; a prompt's key k is at position k.
            key = torch.arange(keys, device=self.position.device)
            distance = torch.where(
                key < self.prompt_width, self.position[:, None] - key, keys - 1 - key
            )
            zeros = torch.zeros(distance.shape, device=distance.device)[:, None, None]
            self.masks[window] = (zeros if bias is None else bias).masked_fill(
                (distance >= window)[:, None, None], -torch.inf
            )
        return self.masks[window]


@dataclass(frozen=True)
class Packed:
    """Positions of the prompts and completions of a micro-batch in its single row of `t` tokens.

    `prompts` (p, P) and `completions` (c, C) hold positions in the row, padded with any position;
    `inverse` (t,) is the index of each token in their concatenation (p*P + c*C). `prompt_of` (c,)
    is the prompt of each completion and `start` (c,) its length. `bias` (c, 1, C, P + C) is 0 where
    a completion's token may attend (its prompt, its own tokens up to itself) and -inf elsewhere.
    """

    prompts: Tensor
    completions: Tensor
    inverse: Tensor
    prompt_of: Tensor
    start: Tensor
    bias: Tensor
    prompt_masks: dict[int, Tensor] = field(default_factory=dict)
    completion_masks: dict[int, Tensor] = field(default_factory=dict)

    def prompt_mask(self, window: int | None, query: Tensor) -> Tensor | None:
        """Shape (P, P); None stands for plain causal attention."""
        return _causal(self.prompt_masks, window, query)

    def completion_mask(self, window: int | None) -> Tensor:
        """Shape (c, 1, C, P + C)."""
        width, depth = self.prompts.shape[1], self.completions.shape[1]
        if window is None or width + depth <= window:
            return self.bias
        if window not in self.completion_masks:
            own = self.start[:, None] + torch.arange(depth, device=self.start.device)
            prompt = torch.arange(width, device=self.start.device).expand(len(own), -1)
            distance = own[:, :, None] - torch.cat([prompt, own], dim=1)[:, None]
            self.completion_masks[window] = self.bias.masked_fill(
                (distance >= window)[:, None], -torch.inf
            )
        return self.completion_masks[window]


def _causal(masks: dict[int, Tensor], window: int | None, query: Tensor) -> Tensor | None:
    tokens = query.shape[2]
    if window is None or tokens <= window:
        return None
    if window not in masks:
        position = torch.arange(tokens, device=query.device)
        distance = position[:, None] - position
        hidden = (distance < 0) | (distance >= window)
        masks[window] = torch.zeros(distance.shape, device=query.device).masked_fill(
            hidden, -torch.inf
        )
    return masks[window]
