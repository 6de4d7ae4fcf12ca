"""Mathematical equivalence of two answers by math-verify, inside a worker process.

math-verify's own time limits are off: their signals are not handled during a long C computation,
and the worker pool enforces a hard limit.
"""

import logging
import re
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache
from types import FrameType
from typing import Any, NamedTuple

from latex2sympy2_extended import NormalizationConfig
from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify
from sympy import Expr, I

from retrain_backends.rewards.answer_text import Answer, read_answer, words_of
from retrain_backends.rewards.units import DEGREE, PERCENT
from retrain_backends.rewards.worker import Item, NoVerdictError, memory_has_been_full

# Units are removed before, by `units.py`.
_NORMALIZATION = NormalizationConfig(malformed_operators=True, nits=True)
_EXTRACTION = (
    LatexExtractionConfig(normalization_config=_NORMALIZATION),
    ExprExtractionConfig(),
)
_DECIMALS = 6  # compared of a decimal number, if it does not have more
_MOST_DECIMALS = 14
# Texts on which a comparison may exhaust the stack or the memory: long ones, large powers, powers
# of powers, factorials.
_LONG = 100
_HUGE = re.compile(r"\^\s*\{?\s*\d{3}|\^[^^]*\^|!")
# The unit of one side may be a factor: 50 % is 0.5 as well as 50.
_FACTORS = {PERCENT: r"\frac{1}{100}", DEGREE: r"\frac{\pi}{180}"}


def load_equivalence() -> Callable[[Item], float]:
    """The function that scores `{"answer", "reference"}`.

    It is called once here, since parts of sympy load on first use, which takes longer than most
    comparisons.
    """
    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its limits are off
    equivalent({"answer": "x^2+2x+1", "reference": "(x+1)^2"})
    return equivalent


def equivalent(item: Item) -> float:
    r"""1.0 if `answer` is equivalent to `reference`, else 0.0.

    Both are read as the content of a `\boxed{...}`. An answer that cannot be read is not
    equivalent to anything.

    Raises:
      NoVerdictError: the reference cannot be read, or the recursion limit was reached.
      MemoryError: the comparison ran out of memory.
    """
    same = _same(read_answer(item["answer"]), read_answer(item["reference"]))
    if not same and memory_has_been_full():
        raise MemoryError
    return float(same)


def _same(answer: Answer, reference: Answer) -> bool:
    if len(answer.items) > 1 and len(reference.items) > 1:
        return _same_items(list(answer.items), list(reference.items))
    decided = _decided_by_text(answer, reference)
    return _same_value(answer, reference) if decided is None else decided


def _decided_by_text(answer: Answer, reference: Answer) -> bool | None:
    """The verdict where math-verify is not needed, or known to be wrong; else None."""
    if answer.number is not None and reference.number is not None:
        return answer.number == reference.number
    if answer.text == reference.text and answer.measured == reference.measured:
        return True
    if _differ_in_kind(answer, reference) or _differ_in_kind(reference, answer):
        return False
    # One letter is a name, in which case matters; math-verify takes A for a.
    if all(len(one.text) == 1 and one.text.isalpha() for one in (answer, reference)):
        return answer.text == reference.text
    words = words_of(answer.text)
    return True if words and words == words_of(reference.text) else None


def _same_items(answers: list[str], references: list[str]) -> bool:
    """Whether two lists have the same items in any order, each as often."""
    if len(answers) != len(references):
        return False
    for one in answers:
        found = next((r for r in references if _same(read_answer(one), read_answer(r))), None)
        if found is None:
            return False
        references.remove(found)
    return True


def _differ_in_kind(one: Answer, other: Answer) -> bool:
    r"""Whether one is `1,2` or `\{1,2\}`, and the other `(1,2)`; `x=1, y=2` may be a point."""
    is_list = len(one.items) > 1 and "=" not in one.text
    return other.is_tuple and (is_list or one.text.startswith(r"\{"))


def _same_value(answer: Answer, reference: Answer) -> bool:
    ours, theirs = answer.measured, reference.measured
    if ours.unit and theirs.unit:
        return ours.unit == theirs.unit and _verified(answer.text, reference.text)
    if _verified(answer.text, reference.text):
        return True
    if factor := _FACTORS.get(ours.unit):
        return _verified(rf"({answer.text}) \cdot {factor}", reference.text)
    if factor := _FACTORS.get(theirs.unit):
        return _verified(answer.text, rf"({reference.text}) \cdot {factor}")
    # What reads as a unit on one side may be a variable: `5 m` and `m \cdot 5`.
    if bool(ours.unit or ours.label) != bool(theirs.unit or theirs.label):
        return _verified(answer.whole, reference.whole)
    return False


def _verified(answer: str, reference: str) -> bool:
    """Whether math-verify finds the two equivalent."""
    ours, theirs = _parse(answer), _parse(reference)
    if all(isinstance(reading, str) for reading in theirs.readings):
        _refuse(theirs.swallowed)
        raise NoVerdictError(f"math-verify cannot read the reference `{reference[:100]}`")
    decimals = max(len(found) for found in ["", *re.findall(r"\.(\d+)", answer + " " + reference)])
    same, swallowed = _watched(
        answer + reference,
        verify,
        list(theirs.readings),
        list(ours.readings),
        float_rounding=min(max(_DECIMALS, decimals), _MOST_DECIMALS),
        allow_set_relation_comp=True,
        timeout_seconds=None,
        raise_on_error=True,
    )
    if not same:
        _refuse(ours.swallowed or theirs.swallowed or swallowed)
    return same


class _Parsed(NamedTuple):
    """The readings of math-verify: sympy objects, and the text itself last."""

    readings: Sequence[Any]
    swallowed: type[BaseException] | None


@lru_cache(maxsize=1024)
def _parse(text: str) -> _Parsed:
    boxed = rf"\boxed{{{text}}}"
    readings, swallowed = _watched(
        text, parse, boxed, _EXTRACTION, parsing_timeout=None, raise_on_error=True
    )
    return _Parsed([_with_imaginary_unit(reading) for reading in readings], swallowed)


def _with_imaginary_unit(reading: Any) -> Any:
    """The reading with i as a number; math-verify takes it for a name, so that i^2 is not -1."""
    if not isinstance(reading, Expr):
        return reading
    return reading.subs({name: I for name in reading.free_symbols if str(name) == "i"})


def _watched(
    text: str, function: Callable[..., Any], *arguments: Any, **options: Any
) -> tuple[Any, type[BaseException] | None]:
    """The result of a function of math-verify, and an error that it swallowed.

    math-verify and sympy catch every exception and say "different" or "unreadable", also when the
    stack or the memory was too small to tell. Only tracing shows that. It makes the call three
    times as slow, so it is done for the texts that may exhaust either.
    """
    if len(text) <= _LONG and not _HUGE.search(text):
        return function(*arguments, **options), None
    swallowed: list[type[BaseException]] = []

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        frame.f_trace_lines = False
        if event == "exception" and issubclass(argument[0], RecursionError | MemoryError):
            swallowed.append(argument[0])
        return trace

    sys.settrace(trace)
    try:
        result = function(*arguments, **options)
        if sys.gettrace() is None:  # Python removes a trace function for which the stack is full
            swallowed.append(RecursionError)
    finally:
        sys.settrace(None)
    return result, swallowed[0] if swallowed else None


def _refuse(swallowed: type[BaseException] | None) -> None:
    if swallowed is None:
        return
    if issubclass(swallowed, MemoryError):
        raise MemoryError
    raise NoVerdictError("math-verify reached the recursion limit (RecursionError)")
