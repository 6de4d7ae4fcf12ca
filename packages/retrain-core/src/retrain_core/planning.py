"""Planning tokens: those of phrases that announce the next step of a completion."""

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, cast

import numpy as np

from retrain_core.arrays import Mask

DEFAULT_GRAMS: Final = (
    "wait let me",
    "let me think",
    "on second thought",
    "let me check",
    "let me verify",
    "is this right",
    "double check",
    "try another approach",
    "go back and",
    "start over",
    "that's not right",
    "that doesn't work",
    "another way to",
    "or we could",
    "what if we",
    "notice that",
    "the key is",
    "the key insight",
)

# How vocabularies write white space: byte-level BPE has U+0120 for a space and U+010A for a
# newline, SentencePiece U+2581 for a space. U+0130 is the only letter that becomes two characters
# in lower case, which would shift every position after it. Each is replaced by one character.
_TOKEN_TO_TEXT: Final = str.maketrans({"\u0120": " ", "\u010a": "\n", "\u2581": " ", "\u0130": "i"})

# What may separate two words: one or two blanks, or a line break with any white space around it.
# Three or more blanks within a line are layout (a table, an indented column), not a phrase.
_GAP: Final = r"(?:[^\S\n]{1,2}|[^\S\n]*\n\s*)"


def parse_strategic_grams(text: str) -> tuple[str, ...]:
    """Read grams from a configured string.

    Args:
      text: a JSON list of strings if it starts with `[`, otherwise grams separated by commas.

    Returns:
      The grams, stripped, without empty ones; `DEFAULT_GRAMS` if none is left.

    Raises:
      ValueError: the text starts with `[` and is not a JSON list of strings.
    """
    parts: list[str] = text.split(",")
    if text.lstrip().startswith("["):
        parts = _json_strings(text)
    grams = tuple(part.strip() for part in parts if part.strip())
    return grams or DEFAULT_GRAMS


def _json_strings(text: str) -> list[str]:
    fix = 'write it as ["let me think", "start over"] or as: let me think, start over'
    try:
        items = cast("list[object]", json.loads(text))  # text that starts with "["
    except json.JSONDecodeError as error:
        raise ValueError(f"strategic grams `{text}` are not a JSON list ({error}): {fix}") from None
    if not all(isinstance(item, str) for item in items):
        raise ValueError(f"strategic grams `{text}` are not a list of strings: {fix}")
    return cast("list[str]", items)


@lru_cache(maxsize=32)
def _patterns(grams: tuple[str, ...]) -> tuple[re.Pattern[str], ...]:
    """One pattern for all grams with the same boundaries; there is almost always only one.

    The boundaries are outside the alternatives, so that most positions are rejected at once.
    """
    phrases = {tuple(gram.translate(_TOKEN_TO_TEXT).lower().split()) for gram in grams} - {()}
    by_boundary: dict[tuple[str, str], list[str]] = {}
    # Longest first: where one gram is the start of another, the longer one matches.
    for words in sorted(phrases, key=lambda words: (-len(" ".join(words)), words)):
        start = r"(?<!\w)" if re.match(r"\w", words[0]) else ""
        end = r"(?!\w)" if re.search(r"\w$", words[-1]) else ""
        by_boundary.setdefault((start, end), []).append(_GAP.join(map(re.escape, words)))
    return tuple(
        re.compile(f"{start}(?:{'|'.join(alternatives)}){end}")
        for (start, end), alternatives in by_boundary.items()
    )


def planning_mask(tokens: Sequence[str], grams: Sequence[str] = DEFAULT_GRAMS) -> Mask:
    """Find the tokens that are part of a strategic gram.

    The search runs over the joined text of the tokens, so it does not matter how words are split
    into tokens. Matching ignores case and needs a word boundary at each end of the gram that is a
    word character. The words may be separated by one or two blanks, or by a line break with any
    white space around it. Matches may overlap.

    Args:
      tokens: text of each token as the tokenizer decodes it, or as it is in the vocabulary (the
        markers U+0120, U+010A and U+2581 are read as white space), length T.
      grams: the phrases.

    Returns:
      True for every token that shares a character with a match, shape [T].
    """
    text = "".join(tokens).translate(_TOKEN_TO_TEXT).lower()
    return span_mask(
        tokens, [span for pattern in _patterns(tuple(grams)) for span in _spans(pattern, text)]
    )


def span_mask(tokens: Sequence[str], spans: Sequence[tuple[int, int]]) -> Mask:
    """Find the tokens that are part of a span of their joined text.

    Args:
      tokens: text of each token, length T.
      spans: first character of each span and the one after its last, in the joined text. They may
        overlap; none is empty.

    Returns:
      True for every token that shares a character with a span, shape [T].
    """
    if not spans:
        return np.zeros(len(tokens), dtype=np.bool_)
    lengths_T = np.fromiter(map(len, tokens), dtype=np.int64, count=len(tokens))
    ends_T = np.cumsum(lengths_T)
    spans_M2 = np.array(spans, dtype=np.int64)
    first = np.searchsorted(ends_T, spans_M2[:, 0], side="right")
    beyond = np.searchsorted(ends_T - lengths_T, spans_M2[:, 1], side="left")
    # +1 where a span starts, -1 after its end: the cumulative sum counts spans at each token.
    steps = np.bincount(first, minlength=len(tokens) + 1)
    steps -= np.bincount(beyond, minlength=len(tokens) + 1)
    return (np.cumsum(steps[:-1]) > 0) & (lengths_T > 0)


def _spans(pattern: re.Pattern[str], text: str) -> list[tuple[int, int]]:
    """All matches, including overlapping ones: the search resumes inside each match."""
    spans: list[tuple[int, int]] = []
    match = pattern.search(text)
    while match:
        spans.append(match.span())
        match = pattern.search(text, match.start() + 1)
    return spans
