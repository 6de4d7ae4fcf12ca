"""Sampling: prompts prefilled once, their cache shared by the group, finished rows dropped.

The token at place `t` of completion `j` of prompt `i` is the inverse CDF of the model's
distribution at the `t`-th uniform number of stream (seed, purpose, step, i, j). A completion
therefore does not depend on which other rows are in the batch, and rows can be dropped, split and
reordered freely.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from retrain_backends.local.attention import Decode, Prefill
from retrain_backends.local.base_model import BaseModel
from retrain_backends.local.cache import GroupCache
from retrain_backends.randomness import stream
from retrain_backends.types import Completion, OnGroup, SamplingParams, Tokens

_DROP_SHARE = 8  # drop finished rows once they are an eighth of the batch


@dataclass
class _Rows:
    """The completions being sampled: arrays of all rows, and which rows are still live."""

    uniforms: Tensor  # (n, max_tokens), float64
    tokens: Tensor  # (n, max_tokens)
    logprobs: Tensor  # (n, max_tokens), float32
    entropy: Tensor | None  # (n, max_tokens), float32
    lengths: Tensor  # (n,), max_tokens until a stop token comes
    live: Tensor  # (m,), rows still in the batch
    done: Tensor  # (m,), bool: finished since rows were last dropped


@torch.inference_mode()
def sample_groups(
    base: BaseModel,
    prompts: Sequence[Tokens],
    first: int,
    params: SamplingParams,
    *,
    share_prompts: bool = True,
    on_group: OnGroup | None = None,
) -> list[list[Completion]]:
    """Sample a group for each prompt.

    Args:
      base: the model, with the adapter to sample from attached.
      prompts: token ids, each at least one.
      first: number of the first of these prompts; it names the random streams.
      params: how to sample.
      share_prompts: prefill each prompt once for its group; False does it for every completion,
        which gives the same completions more slowly.
      on_group: told of every group as soon as it is finished, by its place in `prompts`.

    Returns:
      result[prompt][sample], in the order of `prompts`.
    """
    rows = _start(base, len(prompts), first, params)
    groups = _Groups(len(prompts), params, on_group)
    repeat = torch.arange(len(prompts), device=base.device).repeat_interleave(params.group_size)
    if not share_prompts:
        prompts = [prompt for prompt in prompts for _ in range(params.group_size)]
        repeat = torch.arange(len(prompts), device=base.device)
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=base.device)
    hidden, cache = _prefill(base, prompts, lengths)
    cache.select_rows(repeat)
    position, bias = lengths[repeat], _prompt_bias(lengths, params.max_tokens)
    bias = None if bias is None else bias[repeat]
    token = _draw(base.logits(hidden)[repeat], rows, 0, params)
    for step in range(1, params.max_tokens):
        # On a GPU every eighth token only: looking waits for the device.
        finished = 0 if base.device.type == "cuda" and step % 8 else int(rows.done.sum())
        if finished and on_group:
            groups.announce(rows)
        dropped = _drop_finished(rows, finished)
        if dropped is not None:
            if dropped.numel() == 0:
                break
            cache.select_rows(dropped)
            token, position = token[dropped], position[dropped]
            bias = None if bias is None else bias[dropped]
        hidden = base.hidden(token[:, None], position[:, None], Decode(bias), cache)[:, 0]
        token = _draw(base.logits(hidden), rows, step, params)
        position = position + 1
    return groups.all(rows)


def _start(base: BaseModel, prompts: int, first: int, params: SamplingParams) -> _Rows:
    shape = (prompts * params.group_size, params.max_tokens)
    names = (
        (params.step, first + prompt, sample)
        for prompt in range(prompts)
        for sample in range(params.group_size)
    )
    uniforms = np.stack(
        [stream(params.seed, params.purpose, *name).random(params.max_tokens) for name in names]
    )
    device = base.device
    return _Rows(
        uniforms=torch.from_numpy(uniforms).to(device),
        tokens=torch.zeros(shape, dtype=torch.int64, device=device),
        logprobs=torch.zeros(shape, device=device),
        entropy=torch.zeros(shape, device=device) if params.entropy else None,
        lengths=torch.full((shape[0],), params.max_tokens, device=device),
        live=torch.arange(shape[0], device=device),
        done=torch.zeros(shape[0], dtype=torch.bool, device=device),
    )


def _prefill(
    base: BaseModel, prompts: Sequence[Tokens], lengths: Tensor
) -> tuple[Tensor, GroupCache]:
    """Run the prompts, padded on the right; the hidden state of each one's last token."""
    width = int(lengths.max())
    padded = np.zeros((len(prompts), width), dtype=np.int64)
    for row, prompt in zip(padded, prompts, strict=True):
        row[: len(prompt)] = prompt
    tokens = torch.from_numpy(padded).to(base.device)
    positions = torch.arange(width, device=base.device).expand_as(tokens)
    cache = GroupCache()
    hidden = base.hidden(tokens, positions, Prefill(), cache)
    return hidden[torch.arange(len(prompts), device=base.device), lengths - 1], cache


def _prompt_bias(lengths: Tensor, max_tokens: int) -> Tensor | None:
    """-inf on the padding of the prompts, shape (prompts, 1, 1, keys); None without padding."""
    width = int(lengths.max())
    if bool((lengths == width).all()):
        return None
    bias = torch.zeros(len(lengths), 1, 1, width + max_tokens, device=lengths.device)
    padding = torch.arange(width, device=lengths.device) >= lengths[:, None]
    bias[:, 0, 0, :width].masked_fill_(padding, -torch.inf)
    return bias


def _draw(logits: Tensor, rows: _Rows, step: int, params: SamplingParams) -> Tensor:
    """Draw one token a live row and record it; logits (m, vocabulary), result (m,)."""
    greedy = params.temperature == 0
    if not greedy:
        logits = logits / params.temperature
    logprobs = logits.log_softmax(-1)
    probabilities = logprobs.exp()
    if greedy:
        token = logits.argmax(-1)
    else:
        cdf = probabilities.cumsum(-1, dtype=torch.float64)
        # The sum may miss 1 by rounding; scaling the number keeps the tail's share what it is.
        point = rows.uniforms[rows.live, step, None] * cdf[:, -1:]
        token = torch.searchsorted(cdf, point, right=True)[:, 0].clamp_max(cdf.shape[1] - 1)
    rows.tokens[rows.live, step] = token
    rows.logprobs[rows.live, step] = logprobs.gather(-1, token[:, None])[:, 0]
    if rows.entropy is not None:
        # 0 * -inf is nan, but a token without probability adds nothing.
        entropy = -(probabilities * logprobs.clamp_min(torch.finfo(torch.float32).min)).sum(-1)
        rows.entropy[rows.live, step] = entropy
    _mark_finished(rows, token, step, params.stop_token_ids)
    return token


def _mark_finished(rows: _Rows, token: Tensor, step: int, stop: Sequence[int]) -> None:
    stopped = torch.zeros_like(rows.done)
    for stop_token in stop:
        stopped |= token == stop_token
    stopped &= ~rows.done
    ended = torch.where(stopped, step + 1, rows.lengths[rows.live])
    rows.lengths[rows.live] = ended
    rows.done |= stopped


def _drop_finished(rows: _Rows, finished: int) -> Tensor | None:
    """Which rows of the batch to keep, when enough have finished to make dropping worth it."""
    if not finished or (finished < len(rows.done) and finished * _DROP_SHARE < len(rows.done)):
        return None
    keep = (~rows.done).nonzero()[:, 0]
    rows.live, rows.done = rows.live[keep], rows.done[keep]
    return keep


class _Groups:
    """The completions of one call, made and announced group by group."""

    def __init__(self, prompts: int, params: SamplingParams, on_group: OnGroup | None) -> None:
        self._made: list[list[Completion] | None] = [None] * prompts
        self._params = params
        self._on_group = on_group

    def announce(self, rows: _Rows) -> None:
        """Announce the groups that have finished and were not announced yet."""
        self._make(rows, set((rows.live[~rows.done] // self._params.group_size).tolist()))

    def all(self, rows: _Rows) -> list[list[Completion]]:
        """Every group, when sampling is over."""
        self._make(rows, frozenset())
        return [group for group in self._made if group is not None]

    def _make(self, rows: _Rows, unfinished: Set[int]) -> None:
        for place, group in enumerate(self._made):
            if group is None and place not in unfinished:
                made = self._made[place] = _group(rows, place, self._params)
                if self._on_group:
                    self._on_group(place, made)


def _group(rows: _Rows, place: int, params: SamplingParams) -> list[Completion]:
    """The completions of one prompt."""
    own = slice(place * params.group_size, (place + 1) * params.group_size)
    tokens, lengths = rows.tokens[own].cpu().numpy(), rows.lengths[own].cpu().numpy()
    logprobs = rows.logprobs[own].double().cpu().numpy()
    entropy = None if rows.entropy is None else rows.entropy[own].double().cpu().numpy()
    stop = np.array(params.stop_token_ids, dtype=np.int64)

    def completion(row: int) -> Completion:
        used: npt.NDArray[np.int64] = tokens[row, : lengths[row]].copy()
        return Completion(
            tokens_T=used,
            logprobs_T=logprobs[row, : lengths[row]].copy(),
            stop_reason="stop" if used.size and used[-1] in stop else "length",
            entropy_T=None if entropy is None else entropy[row, : lengths[row]].copy(),
        )

    return [completion(row) for row in range(params.group_size)]
