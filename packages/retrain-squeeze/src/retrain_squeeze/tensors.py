"""Read and write the tensors of a safetensors file in blocks.

The numpy interface of safetensors does not support bfloat16 and needs all tensors in memory to
write a file. It is used to check the header; the bytes are read and written here.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from retrain_squeeze.errors import AdapterError

_LENGTH_BYTES = 8  # of a little-endian integer, the length of the JSON header after it
_CHUNK = 8 * 2**20
# numpy type of each stored format; bfloat16, which numpy lacks, is read as its bits.
_STORED = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


@dataclass(frozen=True)
class Tensor:
    """One tensor of a file: format (such as "BF16"), shape, and position in bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int

    @property
    def readable(self) -> bool:
        """Whether `decode` and `encode` support the format."""
        return self.dtype in _STORED


@dataclass(frozen=True)
class Matrix:
    """A stored tensor as a matrix: its first dimension by all others.

    Slices are read from the file on access. The file is not memory-mapped, since a mapping can take
    up the memory of the whole file. bfloat16 is returned as unsigned integers, for `decode`.
    """

    path: Path
    dtype: str
    start: int
    shape: tuple[int, int]

    def __getitem__(self, index: slice | tuple[slice, slice]) -> NDArray[Any]:
        spans = index if isinstance(index, tuple) else (index, slice(None))
        (top, bottom, _), (left, right, _) = (
            span.indices(size) for span, size in zip(spans, self.shape, strict=True)
        )
        values = np.empty((bottom - top, right - left), self.dtype)
        width = self.shape[1] * values.itemsize
        start = self.start + top * width + left * values.itemsize
        try:
            with self.path.open("rb") as file:
                for i, part in enumerate(_pieces(values, width)):
                    file.seek(start + i * width)
                    if file.readinto(part.data) < part.nbytes:
                        raise AdapterError(f"{self.path}: was truncated while it was read")
        except OSError as error:
            raise AdapterError(
                f"{self.path}: cannot be read ({error.strerror or error})"
            ) from error
        return values


@dataclass(frozen=True)
class TensorFile:
    """A safetensors file whose header has been read."""

    path: Path
    tensors: tuple[Tensor, ...]
    metadata: Mapping[str, str]

    def stored(self, tensor: Tensor) -> Matrix:
        """The stored tensor, to be read in blocks."""
        shape = (tensor.shape[0], math.prod(tensor.shape[1:]))
        return Matrix(self.path, _STORED[tensor.dtype], tensor.start, shape)


def open_tensors(path: Path) -> TensorFile:
    """Read a file's header.

    Raises:
      AdapterError: the file cannot be read, or is not a complete safetensors file.
    """
    try:
        with safe_open(path, framework="numpy") as checked:
            metadata = checked.metadata() or {}
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            header = json.loads(file.read(length))
    except SafetensorError as error:
        reason = str(error).removeprefix("Error while deserializing header: ")
        raise AdapterError(
            f"{path}: is not a complete safetensors file ({reason}); copy or save it again"
        ) from error
    except OSError as error:
        raise AdapterError(f"{path}: cannot be read ({error.strerror or error})") from error
    header.pop("__metadata__", None)
    base = _LENGTH_BYTES + length
    tensors = (_tensor(name, entry, base) for name, entry in header.items())
    return TensorFile(path, tuple(sorted(tensors, key=lambda tensor: tensor.start)), metadata)


def _tensor(name: str, entry: Mapping[str, Any], base: int) -> Tensor:
    start, end = entry["data_offsets"]
    return Tensor(name, entry["dtype"], tuple(entry["shape"]), base + start, end - start)


def decode(stored: NDArray[Any]) -> NDArray[np.float64]:
    """Stored numbers as float64, exactly; unsigned 16-bit integers are the bits of bfloat16."""
    if stored.dtype == np.uint16:  # the upper half of a float32
        stored = np.left_shift(stored, 16, dtype=np.uint32).view(np.float32)
    return stored.astype(np.float64)


def encode(values: NDArray[np.float64], dtype: str) -> NDArray[Any]:
    """Numbers in a stored format, rounded to nearest, ties to even.

    Numbers too large for the format become infinite.
    """
    with np.errstate(over="ignore"):
        if dtype != "BF16":
            return values.astype(_STORED[dtype])
        bits = values.astype("<f4").view("<u4")
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    return ((bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)).astype("<u2")


def is_finite(stored: NDArray[Any]) -> bool:
    """Whether all stored numbers are finite."""
    if stored.dtype == np.uint16:
        return bool(((stored & np.uint16(0x7F80)) != np.uint16(0x7F80)).all())
    return bool(np.isfinite(stored).all())


class TensorWriter:
    """A new safetensors file, filled in blocks, in any order and from any thread.

    Args:
      path: of the file.
      tensors: name, format, shape and size in bytes of each tensor.
      metadata: for the header.
    """

    def __init__(self, path: Path, tensors: Iterable[Tensor], metadata: Mapping[str, str]) -> None:
        # Sorted by width, widest first, so that each tensor is aligned to its number format.
        ordered = sorted(tensors, key=lambda tensor: -_width(tensor))
        header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
        starts: dict[str, int] = {}
        start = 0
        for tensor in ordered:
            starts[tensor.name], end = start, start + tensor.size
            header[tensor.name] = {
                "dtype": tensor.dtype,
                "shape": tensor.shape,
                "data_offsets": (start, end),
            }
            start = end
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % _LENGTH_BYTES)
        self._path, self._base = path, _LENGTH_BYTES + len(text)
        self._starts, self._tensors = starts, {tensor.name: tensor for tensor in ordered}
        with path.open("wb") as file:
            file.write(len(text).to_bytes(_LENGTH_BYTES, "little") + text)
            file.truncate(self._base + start)

    def write(self, name: str, stored: NDArray[Any], row: int = 0, column: int = 0) -> None:
        """Write a block of a tensor.

        The file is not memory-mapped, so a full disk is an error and does not kill the process.

        Args:
          name: of the tensor.
          stored: block of the matrix (first dimension by all others), in the stored format, shape
            (rows, columns).
          row: first row of the block in the matrix.
          column: first column.
        """
        tensor = self._tensors[name]
        whole = tensor.size // tensor.shape[0]
        start = self._base + self._starts[name] + row * whole + column * stored.itemsize
        with self._path.open("r+b") as file:
            for i, part in enumerate(_pieces(np.ascontiguousarray(stored), whole)):
                file.seek(start + i * whole)
                file.write(part.data)

    def copy(self, tensor: Tensor, source: Path) -> None:
        """Copy the bytes of a tensor from another file."""
        with source.open("rb") as original, self._path.open("r+b") as file:
            original.seek(tensor.start)
            file.seek(self._base + self._starts[tensor.name])
            for done in range(0, tensor.size, _CHUNK):
                file.write(original.read(min(_CHUNK, tensor.size - done)))


def _pieces(block: NDArray[Any], width: int) -> Iterable[NDArray[Any]]:
    """The contiguous parts of a block in a matrix whose rows have `width` bytes."""
    return [block] if block[:1].nbytes == width else block


def _width(tensor: Tensor) -> int:
    """Bytes of one number of a tensor; 0 for an empty tensor."""
    return tensor.size // max(math.prod(tensor.shape), 1)
