r"""Reads the text of an answer: notation that math-verify does not know, units, bases and lists.

The rules below turn one way of writing something into another of the same meaning, so they are safe
on both sides of a comparison. What is left is for math-verify.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from retrain_backends.rewards.units import Measured, split_unit

Rule: TypeAlias = tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]

_SIGNS = str.maketrans(
    {
        "−": "-",
        "–": "-",
        "×": r"\times ",
        "·": r"\cdot ",
        "÷": r"\div ",
        "π": r"\pi ",
        "∞": r"\infty ",
        "≤": r"\le ",
        "≥": r"\ge ",
        "≠": r"\ne ",
        "∪": r"\cup ",
        "∅": r"\emptyset ",
        "½": r" \frac{1}{2}",
        "\xa0": " ",
        "\u2009": " ",
        "\u202f": " ",
    }
)
_SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_TRIGONOMETRY = r"\\?(sin|cos|tan|cot|sec|csc)(\^\{?-?\d\}?)?"


def _rule(pattern: str, replacement: str | Callable[[re.Match[str]], str]) -> Rule:
    return re.compile(pattern), replacement


_RULES: Sequence[Rule] = (
    # Mathematics between dollars or brackets is the mathematics.
    _rule(r"^(?:\$\$?|\\\(|\\\[)(.*?[^\\])(?:\$\$?|\\\)|\\\])$", r"\1"),
    _rule(r"\\(?:left|right|[bB]igg?[lr]?)\s*(?=\\?[][(){}|])", ""),
    # Commands that only make a space; `\\` is a new row of a matrix.
    _rule(r"(?<!\\)\\!\s*", ""),
    _rule(r"(?<!\\)\\(?:[,;:> ]|q?quad\b)|~", " "),
    _rule(r"\s+", " "),
    # Punctuation after the answer.
    _rule(r"(?<=[^\s.,;])\s*[.,;]$", ""),
    # Thousands: `1 000`, `1{,}000`, and `1,000` as the whole answer.
    _rule(r"(?<![\d.,])\d{1,3}(?: \d{3})+(?!\d)", lambda found: found[0].replace(" ", "")),
    _rule(r"(?<=\d)\{,\}(?=\d{3})", ""),
    # `1.8e3`. With a sign and a small exponent, as in `2e+1`, it may be Euler's number.
    _rule(
        r"(?<![\w.\\])(1|\d+(?=e-?\+?\d\d)|\d+(?=e\d)|\d*\.\d+)e\+?(-?\d+)(?![\w.])",
        r"\1 \\times 10^{\2}",
    ),
    # Mixed numbers: `1 1/2`.
    _rule(r"(?<![\w^/.}])(\d+) (\d+)\s*/\s*(\d+)(?!\w)", r"(\1+\\frac{\2}{\3})"),
    # `5 million`.
    _rule(
        rf"(?<=\d)\s*(?:\\text\{{)?\s*({'|'.join(_SCALES)})\b\s*\}}?",
        lambda found: rf" \times 10^{{{_SCALES[found[1]]}}}",
    ),
    _rule(r"(?<![A-Za-z\\{])pi(?![A-Za-z])", r"\\pi "),
    # math-verify knows no degrees in an argument.
    _rule(
        _TRIGONOMETRY + r"\s*[({]?\s*(-?\d+(?:\.\d+)?)\s*(?:\^\{?\\circ\}?|°)\s*[)}]?",
        r"\\\1\2{(\\frac{\3\\pi}{180})}",
    ),
    _rule(r"\\varnothing\b|\\\{ ?\\\}", r"\\emptyset"),
    # Conjunctions of a list.
    _rule(r"\s*,?\s*(?:\\text\s*\{\s*(?:and|or)\s*\}|\b(?:and|or)\b)\s*", ", "),
    # The letter of a choice.
    _rule(
        r"^(?:\\(?:text|textbf|mathrm|mathbf)\s*\{)?\s*\(?([A-Za-z])\)?\s*\}?\)?$",
        r"\1",
    ),
)
_BASED = re.compile(r"^\(?((?=[A-Z]*\d)[0-9A-Z]+)\)?_(?:\{\s*(\d+)\s*\}|(\d+))$")
_THOUSANDS = re.compile(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_WORDS = re.compile(r"^(?:\\text\w*\s*\{)?\s*((?=.*[A-Za-z]{3})[A-Za-z]+(?: [A-Za-z]+)+)\s*\}?$")
_BRACKET = re.compile(r"\\.|[][(){},;]", re.DOTALL)


class Answer(NamedTuple):
    """An answer as it is compared.

    Args:
      text: without unit or base.
      whole: with its unit, normalised.
      measured: the unit.
      number: its value, if it is an integer with its base.
      items: of a list without brackets; the answer itself otherwise.
      is_tuple: whether it is a list in round brackets.
    """

    text: str
    whole: str
    measured: Measured
    number: int | None
    items: Sequence[str]
    is_tuple: bool


@lru_cache(maxsize=4096)
def read_answer(text: str) -> Answer:
    """The parts of an answer or a reference."""
    whole = text.translate(_SIGNS).strip()
    for pattern, replacement in _RULES:
        whole = pattern.sub(replacement, whole).strip()
    measured = split_unit(whole)
    value, number = measured.value, None
    if based := _BASED.match(value):
        value, number = based[1], _in_base(based[1], int(based[2] or based[3]))
    if _THOUSANDS.fullmatch(value):
        value = value.replace(",", "")
    inner = _inside_brackets(value)
    items = _split(value)
    is_tuple = inner is not None and len(_split(inner)) > 1
    return Answer(value, whole, measured, number, items, is_tuple)


def words_of(text: str) -> str | None:
    r"""Several words, as in `\text{No solution}`, without command and case; else None."""
    found = _WORDS.match(text)
    return " ".join(found[1].lower().split()) if found else None


def _in_base(digits: str, base: int) -> int | None:
    try:
        return int(digits, base)
    except ValueError:
        return None


def _inside_brackets(text: str) -> str | None:
    """The content of round brackets around the whole text."""
    if not (text.startswith("(") and text.endswith(")")):
        return None
    inner, depth = text[1:-1], 0
    for mark in _BRACKET.finditer(inner):
        depth += (mark[0] == "(") - (mark[0] == ")")
        if depth < 0:
            return None
    return inner


def _split(text: str) -> list[str]:
    """The parts of a text between commas or semicolons outside of all brackets."""
    parts, depth, start = [], 0, 0
    for mark in _BRACKET.finditer(text):
        if mark[0] in ("(", "[", "{", r"\{"):
            depth += 1
        elif mark[0] in (")", "]", "}", r"\}"):
            depth -= 1
        elif mark[0] in ",;" and depth == 0:
            parts.append(text[start : mark.start()].strip())
            start = mark.end()
    return [part for part in [*parts, text[start:].strip()] if part]
