"""The table of answers that are known to equal their reference, or not, by kind."""

import tomllib
from collections.abc import Sequence
from importlib.resources import files
from typing import NamedTuple


class AnswerPair(NamedTuple):
    """An answer and a reference of a kind such as `fractions`, and whether they are the same."""

    kind: str
    answer: str
    reference: str
    same: bool


def answer_pairs() -> Sequence[AnswerPair]:
    """All pairs of `answer_pairs.toml`, in its order."""
    text = files("retrain_backends.rewards").joinpath("answer_pairs.toml").read_text("utf-8")
    return [
        AnswerPair(kind, answer, reference, same=verdict == "same")
        for kind, pairs in tomllib.loads(text).items()
        for verdict in ("same", "different")
        for answer, reference in pairs[verdict]
    ]
