"""Micro-batches for training: rows sorted by length, packed without padding under a token budget.

A micro-batch is one long row: its prompts, each once, then their completions. No layer computes on
padding except attention, for which `attention.Packed` describes the row. The last token of a
completion is predicted but predicts nothing, so it is not part of the row.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from retrain_backends.local.layouts import Packed
from retrain_backends.local.loss import TrainedTokens
from retrain_backends.types import Tokens, TrainBatch
from retrain_core import LossOptions, offsets_from_lengths

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class MicroBatch:
    """`t` tokens in one row, of which `m` are trained.

    The hidden state at `predictors[k]` predicts `trained.targets[k]`, which is token `source[k]` of
    the batch.
    """

    tokens: Tensor
    positions: Tensor
    layout: Packed
    predictors: Tensor
    trained: TrainedTokens
    source: Ints


def batch_to_score(
    prompts: Sequence[Tokens], completions: Sequence[Tokens], temperature: float
) -> TrainBatch:
    """Completions to be scored, as a batch; consecutive ones with the same prompt are a group."""
    groups = [list(same) for _, same in groupby(prompts, key=lambda prompt: prompt.tobytes())]
    total = sum(map(len, completions))
    return TrainBatch(
        prompts=[group[0] for group in groups],
        group_offsets_g=offsets_from_lengths([len(group) for group in groups]),
        token_offsets_n=offsets_from_lengths([len(tokens_T) for tokens_T in completions]),
        tokens_t=np.concatenate([np.empty(0, np.int64), *completions]),
        logprobs_t=np.zeros(total),
        advantages_t=np.zeros(total),
        trained_t=np.ones(total, np.bool_),
        temperature=temperature,
        step=0,
        seed=0,
    )


def plan(batch: TrainBatch, budget: int) -> Iterator[Ints]:
    """Split the batch's completions into micro-batches of at most `budget` input tokens.

    Completions of a group stay together as far as the budget allows. Groups with the longest
    completions come first, so that an out-of-memory error occurs at the first micro-batch. A
    completion that exceeds the budget is a micro-batch of its own.
    """
    lengths = np.diff(batch.token_offsets_n)
    group_of = np.repeat(np.arange(len(batch.prompts)), np.diff(batch.group_offsets_g))
    longest = np.zeros(len(batch.prompts), dtype=np.int64)
    np.maximum.at(longest, group_of, lengths)
    rows: list[int] = []
    used, prompt = 0, -1
    for row in np.lexsort((-lengths, group_of, -longest[group_of])):
        if lengths[row] == 0:
            continue
        group, cost = int(group_of[row]), int(lengths[row]) - 1
        shared = group == prompt
        if rows and used + cost + (0 if shared else len(batch.prompts[group])) > budget:
            yield np.array(rows)
            rows, used, shared = [], 0, False
        used += cost + (0 if shared else len(batch.prompts[group]))
        rows.append(int(row))
        prompt = group
    if rows:
        yield np.array(rows)


def pack(
    batch: TrainBatch, rows: Ints, options: LossOptions, num_tokens: int, device: torch.device
) -> MicroBatch:
    """Completions and their prompts as one row; their loss is divided by `num_tokens`."""
    group_of = np.repeat(np.arange(len(batch.prompts)), np.diff(batch.group_offsets_g))[rows]
    groups, prompt_of = np.unique(group_of, return_inverse=True)
    prompts = [batch.prompts[group] for group in groups]
    prompt_lengths = np.array([len(prompt) for prompt in prompts])
    lengths = np.diff(batch.token_offsets_n)[rows]

    # For every token of these completions: its index in the batch, its row, its position therein.
    source, row_of, position = _ranges(batch.token_offsets_n[:-1][rows], lengths)
    inputs = position < lengths[row_of] - 1
    prompt_starts = _starts(prompt_lengths)
    completion_starts = prompt_lengths.sum() + _starts(lengths - 1)
    before = np.where(
        position == 0,
        (prompt_starts + prompt_lengths - 1)[prompt_of][row_of],
        completion_starts[row_of] + position - 1,
    )
    _, prompt_row, prompt_position = _ranges(prompt_starts, prompt_lengths)
    completion_positions = (prompt_lengths[prompt_of][row_of] + position)[inputs]
    positions = np.concatenate([prompt_position, completion_positions])
    trained = batch.trained_t[source]
    source, before = source[trained], before[trained]

    def on_device(x: npt.NDArray[np.generic], dtype: torch.dtype = torch.int64) -> Tensor:
        return torch.as_tensor(x, dtype=dtype).to(device, non_blocking=True)

    tokens = np.concatenate([*prompts, batch.tokens_t[_all(batch, rows)][inputs]])
    width, depth = int(prompt_lengths.max()), max(1, int(lengths.max()) - 1)
    inverse = np.concatenate(
        [
            prompt_row * width + prompt_position,
            len(prompts) * width + (row_of * depth + position)[inputs],
        ]
    )
    return MicroBatch(
        tokens=on_device(tokens)[None],
        positions=on_device(positions)[None],
        layout=Packed(
            prompts=on_device(_padded(prompt_starts, prompt_lengths, width)),
            completions=on_device(_padded(completion_starts, lengths - 1, depth)),
            inverse=on_device(inverse),
            prompt_of=on_device(prompt_of),
            start=on_device(prompt_lengths[prompt_of]),
            bias=on_device(_bias(prompt_lengths[prompt_of], width, depth), torch.float32),
        ),
        predictors=on_device(before),
        trained=TrainedTokens(
            targets=on_device(batch.tokens_t[source]),
            logprobs=on_device(batch.logprobs_t[source], torch.float32),
            advantages=on_device(batch.weighted_advantages_t[source], torch.float32),
            num_tokens=num_tokens,
            options=options,
        ),
        source=source,
    )


def _all(batch: TrainBatch, rows: Ints) -> Ints:
    return _ranges(batch.token_offsets_n[:-1][rows], np.diff(batch.token_offsets_n)[rows])[0]


def _starts(lengths: Ints) -> Ints:
    return np.cumsum(lengths) - lengths


def _ranges(starts: Ints, lengths: Ints) -> tuple[Ints, Ints, Ints]:
    """The ranges `starts[i] : starts[i] + lengths[i]`, concatenated: value, i, index in range i."""
    row = np.repeat(np.arange(len(lengths)), lengths)
    index = np.arange(lengths.sum()) - _starts(lengths)[row]
    return starts[row] + index, row, index


def _padded(starts: Ints, lengths: Ints, width: int) -> Ints:
    """Indices (rows, width) of each range; padding repeats the last one, or the one before it."""
    last = np.maximum(starts + lengths - 1, 0)
    return np.minimum(starts[:, None] + np.arange(width), last[:, None])


def _bias(prompt_lengths: Ints, width: int, depth: int) -> npt.NDArray[np.float32]:
    """0 on a completion's prompt and on its own tokens up to the query, -inf elsewhere.

    Shape (completions, 1, depth, width + depth). Queries beyond the end of a completion attend to
    tokens too, which keeps the softmax finite; their output is not read.
    """
    prompt = np.arange(width) < prompt_lengths[:, None, None]
    own = np.tril(np.ones((depth, depth), dtype=bool))
    seen = np.concatenate(
        [
            np.broadcast_to(prompt, (len(prompt_lengths), depth, width)),
            np.broadcast_to(own, (len(prompt_lengths), depth, depth)),
        ],
        axis=-1,
    )
    return np.where(seen, np.float32(0), np.float32(-np.inf))[:, None]
