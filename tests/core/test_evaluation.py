from fractions import Fraction
from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrain_core import pass_at_k, question_outcomes


@st.composite
def counts(draw, largest=400):
    """Samples, correct ones among them, and k."""
    samples = draw(st.integers(1, largest))
    return samples, draw(st.integers(0, samples)), draw(st.integers(1, samples))


@given(counts())
def test_is_the_closed_formula(case):
    samples, correct, k = case
    exact = 1 - Fraction(comb(samples - correct, k), comb(samples, k))
    assert pass_at_k(correct, samples, k)[0] == pytest.approx(float(exact), rel=1e-12, abs=1e-12)


@given(counts(largest=9))
def test_is_the_share_of_draws_with_a_correct_sample(case):
    samples, correct, k = case
    draws = list(combinations([True] * correct + [False] * (samples - correct), k))
    assert pass_at_k(correct, samples, k)[0] == pytest.approx(np.mean([any(d) for d in draws]))


@given(st.lists(counts(), min_size=1, max_size=8), st.integers(1, 20))
def test_questions_do_not_look_at_each_other(cases, k):
    samples, correct, _ = (np.array(column) for column in zip(*cases, strict=True))
    alone = [pass_at_k(c, n, k)[0] for c, n in zip(correct, samples, strict=True)]
    np.testing.assert_array_equal(pass_at_k(correct, samples, k), alone)


def test_edges():
    np.testing.assert_allclose(pass_at_k([0, 5, 1, 4], 5, 2), [0, 1, 0.4, 1])
    np.testing.assert_allclose(pass_at_k([0, 1, 2], [4, 4, 8], 1), [0, 0.25, 0.25])
    assert pass_at_k([], [], 3).shape == (0,)
    assert pass_at_k(1, 100_000, 50_000)[0] == pytest.approx(0.5)


def test_fewer_samples_than_k_have_no_estimate():
    np.testing.assert_array_equal(pass_at_k([0, 3, 0], [0, 3, 4], 4), [np.nan, np.nan, 0.0])


def test_inputs_are_left_alone():
    correct, samples = np.array([1.0, 2.0]), np.array([3.0, 3.0])
    pass_at_k(correct, samples, 2)
    assert (correct.tolist(), samples.tolist()) == ([1, 2], [3, 3])


@pytest.mark.parametrize(
    ("correct", "samples", "k"), [(1, 2, 0), (3, 2, 1), (-1, 2, 1), ([[1]], [[2]], 1)]
)
def test_impossible_counts_are_refused(correct, samples, k):
    with pytest.raises(ValueError, match="must"):
        pass_at_k(correct, samples, k)


def test_outcomes_of_questions():
    rewards = [1.0, 0.0, np.nan, 0.25, 0.75, np.nan, 0.4]
    scored = np.array([True, True, False, True, True, False, True])
    got = question_outcomes(rewards, [0, 3, 5, 6, 6, 7], scored)
    np.testing.assert_array_equal(got.correct, [1, 1, 0, 0, 0])
    np.testing.assert_array_equal(got.scored, [2, 2, 0, 0, 1])
    np.testing.assert_array_equal(got.mean_reward, [0.5, 0.5, np.nan, np.nan, 0.4])


def test_all_completions_are_scored_unless_said_otherwise():
    got = question_outcomes([1.0, 0.0], [0, 2])
    assert (got.correct.tolist(), got.scored.tolist(), got.mean_reward.tolist()) == (
        [1],
        [2],
        [0.5],
    )


@given(sizes=st.lists(st.integers(0, 3), max_size=4), place=st.integers(0, 4))
def test_a_question_without_completions_has_no_outcome(sizes, place):
    place, rewards = min(place, len(sizes)), np.arange(sum(sizes)) / 4
    offsets = np.cumsum([0, *sizes])
    without = question_outcomes(rewards, offsets)
    with_it = question_outcomes(rewards, np.insert(offsets, place, offsets[place]))
    assert (with_it.correct[place], with_it.scored[place]) == (0, 0)
    for found, known in zip(with_it, without, strict=True):
        np.testing.assert_array_equal(np.delete(found, place), known)
    assert np.isnan([with_it.mean_reward[place], *pass_at_k(0, 0, 1)]).all()
