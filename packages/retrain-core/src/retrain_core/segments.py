"""Sums and means over the segments of a flat array, without a loop.

A batch lays its completions end to end. `offsets` (length segments + 1) says where each begins:
segment `i` is `values[offsets[i]:offsets[i + 1]]`, and may be empty.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from retrain_core.arrays import Floats, Offsets, as_offsets, check_rank

# Tokens worked on at a time: few enough for a few arrays of them to stay in a processor's cache, so
# many that the loop over the runs costs nothing.
RUN_TOKENS: Final = 1 << 15


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
    """`offsets` checked against `size` entries; None means that they are all one segment."""
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
    # reduceat gives an empty segment its neighbour's value, so only the others are handed over.
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


class Run(NamedTuple):
    """Some neighbouring segments: which they are, which entries they have, and their boundaries.

    `offsets` are the run's own: they begin at 0.
    """

    segments: slice
    entries: slice
    offsets: Offsets


def runs(offsets: Offsets) -> Iterator[Run]:
    """Cut the segments into runs of about `RUN_TOKENS` entries; a segment is never cut.

    Work that needs no more than one segment at a time goes run by run, so that what one operation
    writes is still in the processor's cache when the next one reads it.

    Args:
      offsets: boundaries of the segments, shape [n + 1].
    """
    first, last = 0, offsets.size - 1
    while first < last:
        start = int(offsets[first])
        fitting = int(np.searchsorted(offsets, start + RUN_TOKENS, side="right")) - 1
        beyond = max(fitting, first + 1)
        own = offsets[first : beyond + 1] - start
        yield Run(slice(first, beyond), slice(start, start + int(own[-1])), own)
        first = beyond
