"""How much a completion repeats itself, measured on its token ids."""

from typing import Final

import numpy as np
import numpy.typing as npt

from retrain_core.arrays import Floats, as_offsets, check_rank

_ODD: Final = np.uint64(0x9E3779B97F4A7C15)  # multiplier of the rolling hash
_HASH_BITS: Final = np.uint64(40)  # of each sort key; the rest is the index of the completion
_MOST_COMPLETIONS: Final = 1 << 24


def distinct_ngram_share(
    tokens: npt.ArrayLike, token_offsets: npt.ArrayLike, *, n: int = 8
) -> Floats:
    """Share of distinct n-grams among the n-grams of each completion.

        d_i = distinct n-grams of completion i / n-grams of completion i

    Text without repetition has a share near 1; text that repeats the same k tokens for L tokens has
    about k / L. A completion of fewer than n tokens has no n-gram, and a share of 1.

    Args:
      tokens: token ids of all completions end to end, shape [t].
      token_offsets: boundaries of the completions, shape [n + 1].
      n: length of an n-gram in tokens, at least 1.

    Returns:
      Shares in (0, 1], one for each completion.

    n-grams are compared by 40 bits of a hash. Two different ones are counted as one with
    probability 2^-40, so the share of a completion of L tokens is too low by about L * 2^-41.
    """
    ids = np.asarray(tokens)
    check_rank(ids, 1, "tokens")
    offsets = as_offsets(token_offsets, ids.size, "token_offsets")
    completions = offsets.size - 1
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    if completions > _MOST_COMPLETIONS:
        raise ValueError(f"at most {_MOST_COMPLETIONS} completions at once, got {completions}")
    counts_n = np.maximum(np.diff(offsets) - (n - 1), 0)
    if not counts_n.any():
        return np.ones(completions)
    # The n-grams of completion i begin at its tokens, all but the last n - 1.
    owner = np.repeat(np.arange(completions), counts_n)
    first = np.cumsum(counts_n) - counts_n
    starts = np.arange(owner.size) + (offsets[:-1] - first)[owner]
    hashed = ids.astype(np.uint64) * _ODD
    gram = np.zeros(owner.size, dtype=np.uint64)
    for position in range(n):
        gram = (gram + hashed[starts + position] + np.uint64(1)) * _ODD
        gram ^= gram >> np.uint64(32)
    key = (owner.astype(np.uint64) << _HASH_BITS) | (gram >> (np.uint64(64) - _HASH_BITS))
    key.sort()
    new = np.concatenate([[True], key[1:] != key[:-1]])
    distinct = np.bincount((key[new] >> _HASH_BITS).astype(np.int64), minlength=completions)
    return np.divide(distinct, counts_n, out=np.ones(completions), where=counts_n > 0)
