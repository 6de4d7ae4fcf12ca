"""Splits a completion into sentences."""

import re

# A special token or a tag such as <|im_end|>, </s> or <think>; never part of a sentence.
_TAG = r"<[^\s<>]{1,40}>"
# Punctuation that ends a sentence if white space follows, so that 3.14 and 10:30 stay whole.
_END = r"""(?<=[.!?…:;])(?P<quotes>["'”’)\]*]*)\s+"""
_BREAK = re.compile(rf"{_END}|(?<=[。！？])|\n|{_TAG}")
_WORD = re.compile(r"[^\W\d_]{2}")


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """The first character of each sentence and the one after its last.

    A sentence ends at a line break, at a special token or tag, after one of `. ! ? … : ;` (with
    closing quotes and brackets) if white space follows, and after `。！？`. White space around it
    is not part of it. Text without a word of two letters, such as `x = 4`, is no sentence.
    """
    spans: list[tuple[int, int]] = []
    start = 0
    for found in _BREAK.finditer(text):
        end = found.start() if found["quotes"] is None else found.end("quotes")
        spans += _trimmed(text, start, end)
        start = found.end()
    return [*spans, *_trimmed(text, start, len(text))]


def _trimmed(text: str, start: int, end: int) -> list[tuple[int, int]]:
    sentence = text[start:end]
    if not _WORD.search(sentence):
        return []
    first = start + len(sentence) - len(sentence.lstrip())
    return [(first, first + len(sentence.strip()))]
