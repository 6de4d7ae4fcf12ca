"""Sums and means over the segments of a flat array, without a loop.

A batch lays its completions end to end. `offsets` (length segments + 1) says where each begins:
segment `i` is `values[offsets[i]:offsets[i + 1]]`, and may be empty.
"""

import numpy as np
import numpy.typing as npt

from retrain_core.arrays import Floats, Offsets, as_offsets, check_rank


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
