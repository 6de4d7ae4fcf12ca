"""Key-value cache for groups: prompts are cached once, then their rows repeated and dropped."""

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor
from transformers import Cache, DynamicLayer

# Keys or values as they are stored: numbers, and their scale if they have one.
Store: TypeAlias = Callable[[Tensor], tuple[Tensor, ...]]

_GROWTH = 64  # tokens by which the capacity grows, at least


class GroupLayer(DynamicLayer):
    """One layer's keys and values with spare capacity, so that a new token is written in place.

    `DynamicLayer` concatenates at every token, which copies the whole cache.
    """

    def __init__(self) -> None:
        super().__init__()
        self.length = 0

    def update(self, key_states: Tensor, value_states: Tensor, *_args, **_kwargs):
        """Append along the token axis and return all keys and values."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]
        end = self.length + key_states.shape[2]
        self._reserve(end)
        assert self.keys is not None
        assert self.values is not None
        self.keys[:, :, self.length : end] = key_states
        self.values[:, :, self.length : end] = value_states
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def _reserve(self, tokens: int) -> None:
        assert self.keys is not None
        capacity = self.keys.shape[2]
        if tokens > capacity:
            more = max(tokens - capacity, capacity // 4, _GROWTH)
            self.keys, self.values = _longer(self.keys, more), _longer(self.values, more)

    def get_seq_length(self) -> int:
        """Number of cached tokens."""
        return self.length


def _longer(x: Tensor | None, more: int) -> Tensor:
    assert x is not None
    longer = x.new_empty((*x.shape[:2], x.shape[2] + more, x.shape[3]))
    longer[:, :, : x.shape[2]] = x
    return longer


class StoredLayer(DynamicLayer):
    """One layer's keys and values in another format; `update` returns them in their own."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._store = store
        self._parts: tuple[GroupLayer, ...] = ()

    def update(self, key_states: Tensor, value_states: Tensor, *_args, **_kwargs):
        """Append along the token axis and return all keys and values."""
        keys, values = self._store(key_states), self._store(value_states)
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._parts = tuple(GroupLayer() for _ in keys)
        stored = [part.update(*pair) for part, *pair in zip(self._parts, keys, values, strict=True)]
        keys, values = zip(*stored, strict=True)
        return _restored(keys, key_states.dtype), _restored(values, key_states.dtype)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep only these rows."""
        for part in self._parts:
            part.batch_select_indices(indices)

    def get_seq_length(self) -> int:
        """Number of cached tokens."""
        return self._parts[0].length if self._parts else 0


def _restored(parts: tuple[Tensor, ...], dtype: torch.dtype) -> Tensor:
    numbers, *scales = parts
    for scale in scales:
        numbers = numbers.to(scale.dtype) * scale
    return numbers.to(dtype)


class GroupCache(Cache):
    """A cache whose rows can be repeated for a group, and dropped when completions have ended.

    Args:
      store: makes the format of the keys and values; None for that of the model.
    """

    def __init__(self, store: Store | None = None) -> None:
        layer = GroupLayer if store is None else partial(StoredLayer, store)
        super().__init__(layer_class_to_replicate=layer)  # pyright: ignore[reportArgumentType]

    def select_rows(self, rows: Tensor) -> None:
        """Keep only `rows`, in this order; a row that occurs several times is copied."""
        for layer in self.layers:
            layer.batch_select_indices(rows)  # pyright: ignore[reportAttributeAccessIssue]
