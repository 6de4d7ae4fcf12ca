import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from retrain_campaign.statistics.estimates import Estimate, crossed, paired_t, sign_flip

DIFFERENCES = np.array([0.06, 0.02, 0.07, 0.01, 0.05, 0.04, -0.01, 0.03])
PERCENT = st.integers(-100, 100).map(lambda value: value / 100)


def varied(size):
    """Differences of several seeds that are not all the same."""
    return arrays(float, size, elements=PERCENT).filter(lambda d: np.ptp(d) > 0)


def table(seeds=5, questions=12, seed=0):
    rng = np.random.default_rng(seed)
    parts = rng.normal(0, 0.1, (seeds, 1)), rng.normal(0, 0.3, questions)
    return parts[0] + parts[1] + rng.normal(0, 0.2, (seeds, questions))


@pytest.mark.parametrize("seeds", [2, 3, 5, 8])
def test_paired_t_is_that_of_scipy(seeds):
    control = np.linspace(0.3, 0.6, seeds)
    found = paired_t(DIFFERENCES[:seeds])
    expected = stats.ttest_rel(control + DIFFERENCES[:seeds], control)
    assert found.p_value() == pytest.approx(expected.pvalue)
    limits = expected.confidence_interval(0.9)
    assert found.interval(0.1) == pytest.approx((limits.low, limits.high))


@pytest.mark.parametrize("margin", [0.01, 0.05, 0.1])
def test_equivalence_is_two_one_sided_tests_of_scipy(margin):
    above, below = (
        stats.ttest_1samp(DIFFERENCES, bound, alternative=side).pvalue
        for bound, side in ((-margin, "greater"), (margin, "less"))
    )
    assert paired_t(DIFFERENCES).p_equivalence(margin) == pytest.approx(max(above, below))


@pytest.mark.slow
@pytest.mark.parametrize("margin", [0.01, 0.05, 0.1])
def test_equivalence_is_that_of_statsmodels(statsmodels, margin):
    zeros = np.zeros_like(DIFFERENCES)
    expected = statsmodels.weightstats.ttost_paired(DIFFERENCES, zeros, -margin, margin)[0]
    assert paired_t(DIFFERENCES).p_equivalence(margin) == pytest.approx(expected)


@given(varied(6), st.permutations(range(6)))
def test_the_order_of_seeds_is_irrelevant(differences, order):
    found, expected = paired_t(differences[order]), paired_t(differences)
    assert found.interval(0.05) == pytest.approx(expected.interval(0.05))
    assert sign_flip(differences[order]) == sign_flip(differences)


@given(varied(5))
def test_swapping_treatment_and_control_changes_the_sign_only(differences):
    found, swapped = paired_t(differences), paired_t(-differences)
    low, high = found.interval(0.05)
    assert swapped.interval(0.05) == (-high, -low)
    assert swapped.p_value() == found.p_value()
    assert swapped.p_equivalence(0.02) == found.p_equivalence(0.02)
    assert sign_flip(-differences) == sign_flip(differences)


@given(varied(5), PERCENT)
def test_a_shift_of_all_differences_shifts_the_interval(differences, shift):
    low, high = paired_t(differences).interval(0.05)
    assert paired_t(differences + shift).interval(0.05) == pytest.approx(
        (low + shift, high + shift)
    )


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3])
def test_without_spread_nothing_is_tested(value):
    for found in (paired_t(np.full(3, value)), crossed(np.full((3, 7), value))):
        assert found.interval(0.05) == (-np.inf, np.inf)
        assert (found.p_value(), found.p_equivalence(0.5)) == (1, 1)


def test_leading_axes_are_repetitions():
    many = table(4, 6, seed=1).reshape(4, 2, 3)
    for estimator in (paired_t, crossed):
        rows = [estimator(row) for row in many]
        assert estimator(many).p_value() == pytest.approx(np.array([row.p_value() for row in rows]))
    assert sign_flip(many).shape == (4, 2)


def mean_squares(values):
    """Mean squares of seeds, questions and remainder, by least squares on nested models."""
    seeds, questions = values.shape
    row, column = (index.ravel() for index in np.indices(values.shape))
    by_seed, by_question = np.eye(seeds)[row], np.eye(questions)[column]

    def remainder(*parts):
        design = np.hstack([np.ones((values.size, 1)), *parts])
        fitted = design @ np.linalg.lstsq(design, values.ravel(), rcond=None)[0]
        return np.square(values.ravel() - fitted).sum()

    none, both = remainder(), remainder(by_seed, by_question)
    return (
        (none - remainder(by_seed)) / (seeds - 1),
        (none - remainder(by_question)) / (questions - 1),
        both / ((seeds - 1) * (questions - 1)),
    )


def test_crossed_has_the_mean_squares_of_the_analysis_of_variance():
    values = table()
    ms_s, ms_q, ms_e = mean_squares(values)
    total = ms_s + ms_q - ms_e
    df = total**2 / (ms_s**2 / 4 + ms_q**2 / 11 + ms_e**2 / 44)
    found = crossed(values)
    assert float(found.mean) == pytest.approx(values.mean())
    assert float(found.se) == pytest.approx(np.sqrt(total / values.size))
    assert float(found.df) == pytest.approx(np.clip(df, 4, 6))


def test_crossed_is_never_narrower_than_paired_t():
    for seed in range(20):
        values = table(seed=seed)
        assert crossed(values).se >= paired_t(values.mean(axis=1)).se - 1e-12


def test_questions_without_effects_of_their_own_add_nothing():
    values = np.repeat(DIFFERENCES[:4, None], 6, axis=1)
    assert crossed(values).interval(0.05) == pytest.approx(paired_t(DIFFERENCES[:4]).interval(0.05))


@pytest.mark.parametrize("seeds", [3, 6, 8])
def test_sign_flip_is_the_exact_permutation_test_of_scipy(seeds):
    expected = stats.permutation_test(
        (DIFFERENCES[:seeds],), np.mean, permutation_type="samples", n_resamples=np.inf
    )
    assert sign_flip(DIFFERENCES[:seeds]) == pytest.approx(expected.pvalue)


@pytest.mark.parametrize(("seeds", "p"), [(3, 0.25), (5, 0.0625), (6, 0.03125), (8, 0.0078125)])
def test_the_smallest_p_of_a_sign_flip(seeds, p):
    assert sign_flip(np.arange(1.0, seeds + 1)) == p


def test_darwins_maize_has_the_p_value_of_fishers_book():
    """Cross- minus self-fertilised, in eighths of an inch; Fisher (1935), section 21: 5.267 %."""
    maize = np.array([49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48], float)
    assert sign_flip(maize) == pytest.approx(1726 / 32768)


@pytest.mark.parametrize(
    ("estimator", "shape", "message"),
    [
        (paired_t, (1,), "a spread needs 2 seeds or more, not 1"),
        (crossed, (3, 1), "needs 2 seeds and 2 questions, not 3 and 1"),
        (sign_flip, (21,), "at most 20 seeds, not 21"),
    ],
)
def test_shapes_that_have_no_estimate(estimator, shape, message):
    with pytest.raises(ValueError, match=message):
        estimator(np.zeros(shape))


def test_upper_limit_is_one_sided():
    estimate = Estimate(np.array(1.0), np.array(2.0), np.array(3.0))
    assert estimate.upper_limit(0.1) == pytest.approx(1 + 2 * stats.t.ppf(0.9, 3))
    assert estimate.upper_limit(0.1) == pytest.approx(estimate.interval(0.2)[1])
