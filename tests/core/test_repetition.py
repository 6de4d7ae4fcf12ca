import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrain_core import distinct_ngram_share, offsets_from_lengths


def share_of(row: list[int], n: int) -> float:
    """The definition, with sets."""
    grams = [tuple(row[i : i + n]) for i in range(len(row) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 1.0


@given(
    rows=st.lists(st.lists(st.integers(0, 2), max_size=12), max_size=6),
    n=st.integers(1, 4),
)
def test_agrees_with_sets(rows, n):
    flat = [token for row in rows for token in row]
    shares = distinct_ngram_share(flat, offsets_from_lengths([len(row) for row in rows]), n=n)
    np.testing.assert_allclose(shares, [share_of(row, n) for row in rows])


@pytest.mark.parametrize("period", [1, 3, 20])
def test_a_loop_has_as_many_ngrams_as_its_period(period):
    tokens = np.tile(np.arange(period), 200)[:200]
    [share] = distinct_ngram_share(tokens, [0, 200])
    assert share == pytest.approx(period / 193)


def test_text_that_goes_on_does_not_repeat():
    tokens = np.random.default_rng(0).integers(0, 150_000, 4096)
    np.testing.assert_array_equal(distinct_ngram_share(tokens, [0, 2048, 4096]), [1.0, 1.0])


def test_the_same_text_in_two_completions_is_no_repetition():
    tokens = np.tile(np.arange(50), 2)
    np.testing.assert_array_equal(distinct_ngram_share(tokens, [0, 50, 100]), [1.0, 1.0])


def test_too_short_for_an_ngram():
    np.testing.assert_array_equal(distinct_ngram_share([1, 1, 1], [0, 3, 3]), [1.0, 1.0])


def test_an_ngram_needs_a_token():
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        distinct_ngram_share([1], [0, 1], n=0)
