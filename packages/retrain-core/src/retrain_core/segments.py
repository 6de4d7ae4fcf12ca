"""Sums and means over the segments of a flat array, without a loop.

The completions of a batch lie end to end. `offsets`, shape [n + 1], holds their boundaries: segment
`i` is `values[offsets[i]:offsets[i + 1]]`, which may be empty.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from retrain_core.arrays import Floats, Offsets, as_offsets, check_rank

# Tokens in a chunk: few enough that several arrays of them fit in a processor's cache, and enough
# that the loop over the chunks costs nothing.
CHUNK_TOKENS: Final = 1 << 15


def offsets_from_lengths(lengths: npt.ArrayLike) -> Offsets:
    """Boundaries of segments with these lengths: `[0, l_0, l_0 + l_1, ...]`.

    Args:
      lengths: number of entries of each segment, >= 0, shape [n].

    Returns:
      Offsets, shape [n + 1].
    """
    array = np.asarray(lengths, dtype=np.int64)
    check_rank(array, 1, "lengths")
    if (array < 0).any():
        raise ValueError(f"lengths must be >= 0, got {array.min()}")
    offsets = np.zeros(array.size + 1, dtype=np.int64)
    np.cumsum(array, out=offsets[1:])
    return offsets


def segment_offsets(offsets: npt.ArrayLike | None, size: int, name: str = "offsets") -> Offsets:
    """`offsets` checked against `size` entries; None means a single segment."""
    if offsets is None:
        return np.array([0, size], dtype=np.int64)
    return as_offsets(offsets, size, name)


def segment_sum(values_t: Floats, offsets: Offsets) -> Floats:
    """Sum of each segment; an empty one gives 0.

    Args:
      values_t: any numbers, shape [t].
      offsets: boundaries of the segments, shape [n + 1].

    Returns:
      Sums, shape [n].
    """
    sums_n = np.zeros(offsets.size - 1)
    # For an empty segment `reduceat` returns its neighbour's value, so only the others are passed.
    filled_n = np.diff(offsets) > 0
    if filled_n.any():
        sums_n[filled_n] = np.add.reduceat(values_t, offsets[:-1][filled_n])
    return sums_n


def segment_mean(values_t: Floats, offsets: Offsets) -> Floats:
    """Mean of each segment; an empty one gives 0. Arguments as for `segment_sum`."""
    return segment_sum(values_t, offsets) / np.maximum(np.diff(offsets), 1)


def spread(values_n: Floats, offsets: Offsets) -> Floats:
    """Repeat the value of each segment over its entries: shape [n] -> [t]."""
    return np.repeat(values_n, np.diff(offsets))


class Chunk(NamedTuple):
    """Consecutive segments: their indices, their entries in the flat array, and their boundaries.

    `offsets` are relative to the chunk and start at 0.
    """

    segments: slice
    entries: slice
    offsets: Offsets


def chunks(offsets: Offsets) -> Iterator[Chunk]:
    """Divide the segments into chunks of about `CHUNK_TOKENS` entries; a segment is never split.

    Work that needs only one segment at a time is done chunk by chunk, so that what one operation
    writes is still in the processor's cache when the next one reads it.

    Args:
      offsets: boundaries of the segments, shape [n + 1].
    """
    first, last = 0, offsets.size - 1
    while first < last:
        start = int(offsets[first])
        fitting = int(np.searchsorted(offsets, start + CHUNK_TOKENS, side="right")) - 1
        beyond = max(fitting, first + 1)
        own = offsets[first : beyond + 1] - start
        yield Chunk(slice(first, beyond), slice(start, start + int(own[-1])), own)
        first = beyond
