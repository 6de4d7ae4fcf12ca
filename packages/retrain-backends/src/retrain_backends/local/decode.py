"""Decoding: prompts are prefilled once, groups share the cache, finished rows are dropped.

A token is the inverse CDF of the model's distribution at the next uniform number of its
completion's stream (`Request.key`). A completion therefore does not depend on the other rows in the
batch, and rows can be dropped, split and reordered.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from retrain_backends.local.base_model import BaseModel
from retrain_backends.local.cache import GroupCache
from retrain_backends.local.decoding import DEFAULT, Decoding
from retrain_backends.local.layouts import Decode, Prefill
from retrain_backends.types import Completion, Request, SampledGroups, SamplingParams, Tokens

_DROP_SHARE = 8  # drop finished rows once they are an eighth of the batch


@dataclass
class _Rows:
    """The completions being sampled: arrays of all rows, and the rows that are still live."""

    uniforms: Tensor  # (n, longest limit), float64
    tokens: Tensor  # (n, longest limit)
    logprobs: Tensor  # (n, longest limit), float32
    entropy: Tensor | None  # (n, longest limit), float32
    limits: Tensor  # (n,), max_tokens of the row's request
    lengths: Tensor  # (n,), the limit until a stop token is drawn
    group: Tensor  # (n,), the row's request
    live: Tensor  # (m,), rows still in the batch
    done: Tensor  # (m,), bool: finished since rows were last dropped


@torch.inference_mode()
def sample_groups(
    base: BaseModel,
    requests: Sequence[Request],
    params: SamplingParams,
    *,
    share_prompts: bool = True,
    decoding: Decoding = DEFAULT,
) -> SampledGroups:
    """Sample the completions of all requests in one batch.

    Args:
      base: the model, with the adapter attached.
      requests: at least one.
      params: how to sample.
      share_prompts: prefill each prompt once for its group; False prefills it for every
        completion, which is slower and gives the same completions.
      decoding: how attention is computed and its keys and values are stored.

    Yields:
      The index of a request and its completions, as they finish.
    """
    rows = _start(base, requests, params)
    groups = _Groups(requests, params)
    prompts, repeat = [request.prompt_T for request in requests], rows.group
    if not share_prompts:
        prompts = [prompts[group] for group in repeat.tolist()]
        repeat = torch.arange(len(prompts), device=base.device)
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=base.device)
    longest = rows.tokens.shape[1]
    hidden, cache = _prefill(base, prompts, lengths, decoding)
    cache.select_rows(repeat)
    position, width = lengths[repeat], int(lengths.max())
    bias = _prompt_bias(lengths, longest)
    bias = None if bias is None else bias[repeat]
    token = _draw(base.logits(hidden)[repeat], rows, 0, params)
    for step in range(1, longest):
        # On a GPU only at every eighth token, because reading the count synchronises.
        finished = 0 if base.device.type == "cuda" and step % 8 else int(rows.done.sum())
        if finished:
            yield from groups.finished(rows)
        dropped = _drop_finished(rows, finished)
        if dropped is not None:
            if dropped.numel() == 0:
                break
            cache.select_rows(dropped)
            token, position = token[dropped], position[dropped]
            bias = None if bias is None else bias[dropped]
        layout = Decode(bias, position, width, decoding.kernel)
        hidden = base.hidden(token[:, None], position[:, None], layout, cache)[:, 0]
        token = _draw(base.logits(hidden), rows, step, params)
        position = position + 1
    yield from groups.rest(rows)


def _start(base: BaseModel, requests: Sequence[Request], params: SamplingParams) -> _Rows:
    limits = [request.max_tokens for request in requests for _ in request.samples]
    uniforms = np.zeros((len(limits), max(limits)))
    streams = (request.key.stream(sample) for request in requests for sample in request.samples)
    for row, limit, stream in zip(uniforms, limits, streams, strict=True):
        stream.random(out=row[:limit])
    device, shape = base.device, uniforms.shape
    sizes = torch.tensor([len(request.samples) for request in requests], device=device)
    limit_n = torch.tensor(limits, device=device)
    return _Rows(
        uniforms=torch.from_numpy(uniforms).to(device),
        tokens=torch.zeros(shape, dtype=torch.int64, device=device),
        logprobs=torch.zeros(shape, device=device),
        entropy=torch.zeros(shape, device=device) if params.entropy else None,
        limits=limit_n,
        lengths=limit_n.clone(),
        group=torch.arange(len(requests), device=device).repeat_interleave(sizes),
        live=torch.arange(shape[0], device=device),
        done=torch.zeros(shape[0], dtype=torch.bool, device=device),
    )


def _prefill(
    base: BaseModel, prompts: Sequence[Tokens], lengths: Tensor, decoding: Decoding
) -> tuple[Tensor, GroupCache]:
    """Run the prompts, padded on the right; returns the hidden state of their last tokens."""
    width = int(lengths.max())
    padded = np.zeros((len(prompts), width), dtype=np.int64)
    for row, prompt in zip(padded, prompts, strict=True):
        row[: len(prompt)] = prompt
    tokens = torch.from_numpy(padded).to(base.device)
    positions = torch.arange(width, device=base.device).expand_as(tokens)
    cache = GroupCache(decoding.store)
    hidden = base.hidden(tokens, positions, Prefill(decoding.kernel), cache)
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
    """Draw and record one token per live row; logits (m, vocabulary), result (m,)."""
    greedy = params.temperature == 0
    if not greedy:
        logits = logits / params.temperature
    logprobs = logits.log_softmax(-1)
    probabilities = logprobs.exp()
    if greedy:
        token = logits.argmax(-1)
    else:
        cdf = probabilities.cumsum(-1, dtype=torch.float64)
        # The sum may differ from 1 by rounding; scaling the number preserves the tail.
        point = rows.uniforms[rows.live, step, None] * cdf[:, -1:]
        token = torch.searchsorted(cdf, point, right=True)[:, 0].clamp_max(cdf.shape[1] - 1)
    rows.tokens[rows.live, step] = token
    rows.logprobs[rows.live, step] = logprobs.gather(-1, token[:, None])[:, 0]
    if rows.entropy is not None:
        # 0 * -inf is nan, but a token of probability 0 contributes nothing.
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
    rows.done |= stopped | (rows.limits[rows.live] <= step + 1)


def _drop_finished(rows: _Rows, finished: int) -> Tensor | None:
    """The rows of the batch to keep; None while too few have finished."""
    if not finished or (finished < len(rows.done) and finished * _DROP_SHARE < len(rows.done)):
        return None
    keep = (~rows.done).nonzero()[:, 0]
    rows.live, rows.done = rows.live[keep], rows.done[keep]
    return keep


class _Groups:
    """Makes the completions of each request once they have finished."""

    def __init__(self, requests: Sequence[Request], params: SamplingParams) -> None:
        ends = np.cumsum([len(request.samples) for request in requests]).tolist()
        self._rows = dict(enumerate(map(slice, [0, *ends], ends)))  # of requests not yet returned
        self._stop = np.array(params.stop_token_ids, dtype=np.int64)

    def finished(self, rows: _Rows) -> SampledGroups:
        """The requests whose completions have all finished, and which were not returned yet."""
        return self._make(rows, set(rows.group[rows.live[~rows.done]].tolist()))

    def rest(self, rows: _Rows) -> SampledGroups:
        """All requests that were not returned yet, at the end of sampling."""
        return self._make(rows, frozenset())

    def _make(self, rows: _Rows, unfinished: Set[int]) -> SampledGroups:
        for index in [index for index in self._rows if index not in unfinished]:
            yield index, self._completions(rows, self._rows.pop(index))

    def _completions(self, rows: _Rows, own: slice) -> list[Completion]:
        tokens, lengths = rows.tokens[own].cpu().numpy(), rows.lengths[own].cpu().numpy()
        logprobs = rows.logprobs[own].double().cpu().numpy()
        entropy = None if rows.entropy is None else rows.entropy[own].double().cpu().numpy()

        def completion(row: int) -> Completion:
            used: npt.NDArray[np.int64] = tokens[row, : lengths[row]].copy()
            return Completion(
                tokens_T=used,
                logprobs_T=logprobs[row, : lengths[row]].copy(),
                stop_reason="stop" if used.size and used[-1] in self._stop else "length",
                entropy_T=None if entropy is None else entropy[row, : lengths[row]].copy(),
            )

        return [completion(row) for row in range(len(tokens))]
