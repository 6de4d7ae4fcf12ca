"""Mathematical equivalence of two answers by math-verify, inside a worker process.

math-verify's own time limits are off: their signals are not handled during a long C computation,
and the worker pool enforces a hard limit.
"""

import logging
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from math_verify import parse, verify

from retrain_backends.rewards.worker import Item, NoVerdictError, memory_has_been_full


def load_equivalence() -> Callable[[Item], float]:
    """The function that scores `{"answer", "reference"}`.

    It is called once here, since parts of sympy load on first use, which takes longer than most
    comparisons.
    """
    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its limits are off
    equivalent({"answer": "x^2+2x+1", "reference": "(x+1)^2"})
    return equivalent


def equivalent(item: Item) -> float:
    r"""1.0 if math-verify finds `answer` equivalent to `reference`, else 0.0.

    Both are read as the content of a `\boxed{...}`. An answer that cannot be read is not
    equivalent to anything.

    Raises:
      NoVerdictError: the reference cannot be read.
      MemoryError: the comparison ran out of memory, which math-verify itself reports as "not
        equivalent".
    """
    reference = _parse(item["reference"])
    if all(isinstance(reading, str) for reading in reference):
        raise NoVerdictError(f"math-verify cannot read the reference `{item['reference'][:100]}`")
    answer = _parse(item["answer"])
    same = verify(list(reference), list(answer), timeout_seconds=None, raise_on_error=True)
    if not same and memory_has_been_full():
        raise MemoryError
    return float(same)


@lru_cache(maxsize=1024)
def _parse(text: str) -> tuple[Any, ...]:
    """The readings of math-verify: sympy objects, and the text itself last."""
    boxed = rf"\boxed{{{text}}}"
    return tuple(parse(boxed, parsing_timeout=None, raise_on_error=True))  # pyright: ignore[reportArgumentType]
