"""An endless, seeded source of small arithmetic questions.

Example `i` is a pure function of (seed, split, i), generated on access. There are about a million
different questions, and a hash of its content assigns each to one split: no training question, of
any seed, is a test question.
"""

import hashlib
import sys
from collections.abc import Sequence
from typing import overload

import numpy as np

from retrain_backends.errors import DataError
from retrain_backends.randomness import Purpose, stream
from retrain_backends.types import Example

HELD_OUT_SHARE = 8  # one question in eight belongs to the test split

_PURPOSES = {"train": Purpose.EXAMPLE, "test": Purpose.HELD_OUT_EXAMPLE}
_OPERATORS = ("+", "-", "*")
_OPERATOR_SHARES = (0.4, 0.8)  # cumulative, the rest are products


def split_of(left: int, operator: str, right: int) -> str:
    """The split that a question belongs to: "test" for one in eight, by a hash of its content.

    `3 + 5` and `5 + 3` are one question, as are `3 * 5` and `5 * 3`.

    Args:
      left: the first operand.
      operator: `+`, `-` or `*`.
      right: the second operand.

    Returns:
      "train" or "test"; the same on every machine and for every seed.
    """
    low, high = (left, right) if operator == "-" else sorted((left, right))
    digest = hashlib.blake2b(f"{low}{operator}{high}".encode(), digest_size=8).digest()
    return "test" if int.from_bytes(digest, "big") % HELD_OUT_SHARE == 0 else "train"


class ArithmeticExamples(Sequence[Example]):
    """Questions such as `What is 347 + 85?`, with the integer as the reference.

    Additions and subtractions of numbers with two or three digits (40 % each; no result is
    negative) and products of a digit and such a number (20 %).

    Args:
      seed: the run's seed, >= 0.
      split: "train" or "test".

    Raises:
      DataError: another split.
    """

    endless = True

    def __init__(self, seed: int, split: str) -> None:
        if split not in _PURPOSES:
            raise DataError(
                f"[data] split = `{split}`: the arithmetic source has the splits `train` and `test`"
            )
        self._seed = seed
        self._split = split

    def __len__(self) -> int:
        """The largest length that Python allows, since there is no last example."""
        return sys.maxsize

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        """Example `index`, or the list of a slice, which needs a stop.

        Raises:
          IndexError: a negative index.
          ValueError: a slice without a stop, or one counted from the end.
        """
        if isinstance(index, slice):
            start, stop = index.start or 0, index.stop
            if stop is None or start < 0 or stop < 0:
                raise ValueError("a slice of an endless source needs a start >= 0 and a stop >= 0")
            return [self[i] for i in range(start, stop, index.step or 1)]
        if index < 0:
            raise IndexError("an endless source has no negative indices")
        return self._example(index)

    def _example(self, index: int) -> Example:
        """Draw questions from the example's own stream until one belongs to the split."""
        rng = stream(self._seed, _PURPOSES[self._split], index)
        while True:
            left, operator, right = _draw(rng)
            if split_of(left, operator, right) == self._split:
                break
        answer = {"+": left + right, "-": left - right, "*": left * right}[operator]
        return Example(
            question=f"What is {left} {operator} {right}?",
            reference=str(answer),
            metadata={"operator": operator},
        )


def _draw(rng: np.random.Generator) -> tuple[int, str, int]:
    """One question of either split."""
    operator = _OPERATORS[int(np.searchsorted(_OPERATOR_SHARES, rng.random(), side="right"))]
    left, right = _operand(rng), _operand(rng)
    if operator == "*":
        left = int(rng.integers(2, 10))
    if operator == "-" and left < right:
        left, right = right, left
    return left, operator, right


def _operand(rng: np.random.Generator) -> int:
    """A number with two or three digits, equally likely."""
    return int(rng.integers(10, 100) if rng.random() < 0.5 else rng.integers(100, 1000))
