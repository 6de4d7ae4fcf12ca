import json
import re
from itertools import groupby, islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrain_backends.config import PlanningConfig
from retrain_backends.planning import build_detector
from retrain_backends.planning.phrases import EXECUTION_PHRASES, PLANNING_PHRASES
from retrain_backends.planning.semantic import SemanticDetector
from retrain_backends.testing import DETECTOR_CHECKS, DetectorCase
from retrain_backends.tokenizer import load_tokenizer
from retrain_test_support.tokenizers import byte_level, qwen, save_tokenizer, sentencepiece

PLANNING = ("let me see whether it is ü.", "on 🤔🤔 let me…", "let me подумать:", "もう let me。")
EXECUTION = ("et is 3.14 · 2 = 6.28.", "сумма – 12!", "x = 4;", "もう一度。", "let. me?", "🤔!")


class LettersModel:
    """Embeds by whether a sentence says "let me", and records what it embeds."""

    def __init__(self):
        self.batches = []

    def __call__(self, sentences):
        self.batches.append(list(sentences))
        return np.array([[1.0, 0.0] if "let me" in s else [0.0, 1.0] for s in sentences])


@pytest.fixture
def model():
    return LettersModel()


@pytest.fixture
def detector(model):
    return SemanticDetector(model, ["let me"], ["so"], 0.5)


def marked(detector, *completions):
    masks = detector.masks(completions)
    return ["".join("^" if hit else "." for hit in mask) for mask in masks]


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (["So", " 4", ".", " let", " me", " see", ".", " Now"], "...^^^^."),
        (["So 4.", "\n\n", "let me", " see", "\n", "4"], "..^^.."),
        (["So 4", ". let", " me see.\n\nNow", " 5"], ".^^."),  # tokens of two sentences
        (["let me", "", " see", "<|im_end|>"], "^.^."),
        ([], ""),
    ],
)
def test_tokens_of_planning_sentences(detector, tokens, expected):
    assert marked(detector, tokens) == [expected]


def test_only_new_sentences_are_embedded_and_all_at_once(detector, model):
    del model.batches[:]
    detector.masks([["let me see. ", "So it is."], ["So it is.", " Now"]])
    detector.masks([["Now. Then."], ["So it is."]])
    assert model.batches == [["let me see.", "So it is.", "Now"], ["Now.", "Then."]]


@pytest.fixture(scope="session", params=[byte_level, qwen, sentencepiece])
def tokenizer(request, tmp_path_factory):
    """A tokenizer whose tokens are bytes or merges, without a token at the start of a text."""
    directory = tmp_path_factory.mktemp("tokenizer")
    return load_tokenizer(save_tokenizer(request.param(), directory, leading=()))


sentences = st.sampled_from(
    [*((text, True) for text in PLANNING), *((text, False) for text in EXECUTION)]
)
separators = st.sampled_from([(text, False) for text in (" ", "\n", "\n\n", "  \n")])


@given(pairs=st.lists(st.tuples(sentences, separators), max_size=6))
def test_a_token_is_marked_if_it_has_a_byte_of_a_planning_sentence(tokenizer, pairs):
    parts = [part for pair in pairs for part in pair]
    text = "".join(text for text, _ in parts)
    ids = tokenizer.encode(text)
    pieces = tokenizer.pieces(ids)
    prefix = "".join(pieces.texts).removesuffix(text)  # SentencePiece puts a space before a text
    assert prefix in ("", " ")
    plans = [False] * len(prefix)
    for text, is_planning in parts:
        plans += [is_planning] * len(text.encode())
    of_bytes = iter(plans)
    # Each of these tokens is whole characters, or one byte of a character.
    texts = [text.replace("\N{REPLACEMENT CHARACTER}", "?") for text in tokenizer.token_texts(ids)]
    expected = [any(list(islice(of_bytes, len(text.encode())))) for text in texts]
    [mask] = SemanticDetector(LettersModel(), ["let me"], ["so"], 0.5).masks([pieces.texts])
    assert np.repeat(mask, pieces.sizes).tolist() == expected
    assert list(of_bytes) == []


@pytest.mark.slow
@pytest.mark.parametrize("check", DETECTOR_CHECKS, ids=lambda check: check.__name__)
def test_it_conforms(check, minilm):
    phrases = (PLANNING_PHRASES, EXECUTION_PHRASES)
    check(DetectorCase(make=lambda: SemanticDetector(minilm, *phrases, 0.02)))


PLANS = """\
Perhaps we can find a pattern by looking at small values.
Actually, I think I misread the problem.
Let's consider two cases.
This approach seems too complicated.
That means our assumption was wrong.
"""
EXECUTES = """\
She has 24 eggs left.
Squaring both sides, x^2 = 49.
By the Pythagorean theorem, c = 5.
Adding 3 to both sides.
The greatest common divisor of 12 and 18 is 6.
"""


@pytest.mark.slow
def test_sentences_that_are_in_no_list(minilm_path):
    config = PlanningConfig(detector="semantic", model=minilm_path)
    planning, execution = build_detector(config, "").masks(
        [PLANS.splitlines(keepends=True), EXECUTES.splitlines(keepends=True)]
    )
    assert planning.all()
    assert not execution.any()


@pytest.mark.slow
def test_configured_phrases_replace_those_that_plan(minilm_path):
    config = PlanningConfig(detector="semantic", model=minilm_path)
    detector = build_detector(config, '["bake a cake", "whip the cream"]')
    assert marked(detector, ["Cook the eggs.", " Let me check."]) == ["^."]


def bracketed(detector, text):
    """The text with brackets around what is marked."""
    [mask] = detector.masks([list(text)])
    runs = groupby(zip(mask, text, strict=True), key=lambda pair: bool(pair[0]))
    joined = [(hit, "".join(letter for _, letter in run)) for hit, run in runs]
    return "".join(f"[{run}]" if hit else run for hit, run in joined)


@pytest.mark.slow
def test_the_completions_of_the_documentation(minilm_path):
    page = (Path(__file__).parents[3] / "docs" / "planning.md").read_text("utf-8")
    phrases = re.findall(
        r'"([^"]+)"', page.partition("The mined phrases here are ")[2].split("\n")[0]
    )
    shown = re.findall(r"```text\n(.*?)\n```", page, re.DOTALL)
    detectors = (
        build_detector(PlanningConfig(), ""),
        build_detector(PlanningConfig(), json.dumps(phrases)),
        build_detector(PlanningConfig(detector="semantic", model=minilm_path), ""),
    )
    assert len(shown) == 6
    for detector, text in zip(detectors * 2, shown, strict=True):
        assert bracketed(detector, re.sub(r"[][]", "", text)) == text
