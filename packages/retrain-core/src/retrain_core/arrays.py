"""Array types, and the checks at the start of every public function.

Shape suffixes: `_G` completions of one group, `_n` completions and `_g` groups of a batch, `_t`
tokens of all completions of a batch, `_T` tokens of one completion, `_V` vocabulary.
"""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Mask: TypeAlias = npt.NDArray[np.bool_]
Offsets: TypeAlias = npt.NDArray[np.int64]


def check_rank(array: npt.NDArray[np.generic], rank: int, name: str) -> None:
    """Raise ValueError unless `array` has `rank` dimensions."""
    if array.ndim != rank:
        raise ValueError(f"{name} must have {rank} dimension(s), got shape {array.shape}")


def check_size(array: npt.NDArray[np.generic], size: int, name: str, of: str) -> None:
    """Raise ValueError unless the vector `array` has `size` entries, one for each of `of`."""
    if array.size != size:
        raise ValueError(f"{name} has {array.size} entries, but there are {size} {of}")


def as_floats(values: npt.ArrayLike, name: str) -> Floats:
    """`values` as a float64 vector; not copied if it already is one."""
    array = np.asarray(values, dtype=np.float64)
    check_rank(array, 1, name)
    return array


def as_mask(values: npt.ArrayLike, size: int, name: str, of: str = "tokens") -> Mask:
    """`values` as a boolean vector of `size` entries; numbers are refused."""
    array = np.asarray(values)
    check_rank(array, 1, name)
    check_size(array, size, name, of)
    if array.size and array.dtype != np.bool_:
        raise ValueError(f"{name} must be boolean, got {array.dtype}: use `x > 0` or the like")
    return array.astype(np.bool_, copy=False)


def as_offsets(values: npt.ArrayLike, size: int, name: str, of: str = "tokens") -> Offsets:
    """`values` as boundaries of segments of `size` entries: 0, ..., size, never decreasing."""
    array = np.asarray(values, dtype=np.int64)
    check_rank(array, 1, name)
    if array.size == 0 or array[0] != 0 or array[-1] != size or (np.diff(array) < 0).any():
        raise ValueError(f"{name} must start at 0, never decrease, and end at the {size} {of}")
    return array
