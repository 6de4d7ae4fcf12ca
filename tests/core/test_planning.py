from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrain_core import DEFAULT_GRAMS, parse_strategic_grams, planning_mask, span_mask


@pytest.mark.golden("planning_masks", "planning_mask")
def test_golden_mask(case, check):
    grams = case["params"]["strategic_grams"]
    tokens = case["inputs"]["tokens"]
    check(case, planning_mask(tokens, DEFAULT_GRAMS if grams is None else grams))


@pytest.mark.golden("strategic_gram_parsing", "parse_strategic_grams")
def test_golden_parsing(case, check):
    check(case, list(parse_strategic_grams(case["inputs"]["value"])))


def marked(tokens, grams=DEFAULT_GRAMS):
    return "".join("^" if hit else "." for hit in planning_mask(tokens, grams))


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (["So", " that", "'s", " not", " right", "."], ".^^^^."),  # sub-words
        (["let me ", "ver", "ify", " it"], "^^^."),
        (["let me ver", "ifying", " it"], "..."),
        (["Let", "\n", "me", "\t", "check"], "^^^^^"),
        (["let", "\n\n    ", "me", "  check"], "^^^^"),  # a line break, with any indentation
        (["let", "   ", "me", " check"], "...."),  # columns of a table
        (["(", "double", " check", ")"], ".^^."),
        (["", "double", "", " check", ""], ".^.^."),  # a token without text overlaps nothing
        (["İİ", " double check", "İ"], "..."),  # "i" is a word character
        (["İ ", "double check", " ß"], ".^."),  # lowering does not shift positions
    ],
)
def test_real_text(tokens, expected):
    assert marked(tokens) == expected


def test_no_boundary_is_asked_at_an_end_that_is_no_word_character():
    assert marked(["x", "=>", "y"], ["=>"]) == ".^."
    assert marked(["hm", "m?", "no"], ["hmm?"]) == "^^."


def test_the_longer_of_two_grams_that_begin_alike():
    assert marked(["go", " back", " now"], ["go", "go back"]) == "^^."
    assert marked(["go", "?", " now"], ["go", "go?"]) == "^^."


def test_grams_with_regex_characters_are_literal():
    assert marked(["a", "b"], ["."]) == ".."
    assert marked(["1", "+", "1"], ["1+1"]) == "^^^"


words = st.sampled_from([*" ".join(DEFAULT_GRAMS).split(), "x", "=", "12,", "Ünder", "\n"])


@given(words=st.lists(words, max_size=25), data=st.data())
def test_mask_does_not_depend_on_how_words_are_split(words, data):
    text = " ".join(words)
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=20).map(sorted))
    tokens = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    by_character = planning_mask(list(text))
    starts = np.cumsum([0, *map(len, tokens)])
    expected = [by_character[a:b].any() for a, b in pairwise(starts)]
    np.testing.assert_array_equal(planning_mask(tokens), expected)


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([], "......"),
        ([(0, 1)], "^....."),
        ([(1, 3)], ".^...."),
        ([(2, 4), (3, 6)], ".^.^.^"),
        ([(0, 2), (5, 6)], "^^...^"),
        ([(0, 99)], "^^.^.^"),
    ],
)
def test_tokens_of_spans(spans, expected):
    mask = span_mask(["a", "bc", "", "de", "", "f"], spans)
    assert "".join("^" if hit else "." for hit in mask) == expected


@pytest.mark.parametrize("value", ["", "  ", ",,", "[]", '[" "]'])
def test_nothing_configured_means_the_defaults(value):
    assert parse_strategic_grams(value) == DEFAULT_GRAMS


@pytest.mark.parametrize("value", ['["a", ', "[1, 2]"])
def test_a_bad_list_is_named(value):
    with pytest.raises(ValueError, match="strategic grams"):
        parse_strategic_grams(value)
