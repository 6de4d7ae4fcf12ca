from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from retrain_campaign.statistics.estimates import paired_t
from retrain_campaign.statistics.families import (
    against_first,
    holm,
    max_t_critical,
    max_t_p_value,
    pooled_t,
)

P_VALUES = arrays(float, 5, elements=st.floats(0, 1))
METRICS = np.random.default_rng(4).normal(0.5, 0.1, (4, 6))


def test_holm_gives_the_values_of_rs_p_adjust():
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(P_VALUES, st.permutations(range(5)))
def test_holm_keeps_the_order_and_is_between_raw_and_bonferroni(p_values, order):
    adjusted = holm(p_values)
    assert (adjusted >= p_values).all()
    assert (adjusted <= np.minimum(5 * p_values, 1)).all()
    assert (np.diff(adjusted[np.argsort(p_values, kind="stable")]) >= 0).all()
    assert np.array_equal(holm(p_values[order]), adjusted[order])


@pytest.mark.slow
def test_holm_is_that_of_statsmodels(statsmodels):
    for p_values in np.random.default_rng(1).uniform(0, 0.1, (50, 6)):
        expected = statsmodels.multitest.multipletests(p_values, method="holm")[1]
        assert holm(p_values) == pytest.approx(expected)


# Dunnett (1964), two-sided, 5 %: 1 to 5 treatments against a control.
@pytest.mark.parametrize(
    ("df", "values"),
    [
        (5, (2.57, 3.03, 3.29, 3.48, 3.62)),
        (10, (2.23, 2.57, 2.76, 2.89, 2.99)),
        (20, (2.09, 2.38, 2.54, 2.65, 2.73)),
    ],
)
def test_critical_values_are_those_of_dunnetts_table(df, values):
    found = [max_t_critical(0.05, against_first(count), df) for count in range(1, 6)]
    assert found == pytest.approx(values, abs=0.0051)


@pytest.mark.parametrize("df", [4, 14])
def test_all_pairs_are_tukeys_test(df):
    pairs = tuple(combinations(range(4), 2))
    expected = stats.studentized_range.ppf(0.95, 4, df) / np.sqrt(2)
    assert max_t_critical(0.05, pairs, df) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("t_value", [0.5, 2.5, 6.0])
def test_p_values_are_those_of_scipys_multivariate_t(t_value):
    shape = np.full((3, 3), 0.5) + np.eye(3) / 2
    inside = stats.multivariate_t(shape=shape, df=8, seed=1).cdf(
        np.full(3, t_value), lower_limit=np.full(3, -t_value), maxpts=200_000
    )
    found = max_t_p_value(np.array(t_value), against_first(3), 8)
    assert found == pytest.approx(1 - inside, abs=2e-4)


@pytest.mark.parametrize("t_value", [0.0, 1.0, 3.0])
def test_one_contrast_needs_no_adjustment(t_value):
    found = max_t_p_value(np.array(t_value), against_first(1), 5)
    assert found == pytest.approx(2 * stats.t.sf(t_value, 5), abs=1e-4)


def test_two_conditions_are_paired_t():
    found, expected = pooled_t(METRICS[:2], against_first(1)), paired_t(METRICS[1] - METRICS[0])
    assert found.interval(0.05) == pytest.approx(np.reshape(expected.interval(0.05), (2, 1)))


def test_the_spread_is_that_of_the_analysis_of_variance_in_blocks():
    condition, seed = (index.ravel() for index in np.indices(METRICS.shape))
    design = np.hstack([np.eye(4)[condition], np.eye(6)[seed]])
    fitted = design @ np.linalg.lstsq(design, METRICS.ravel(), rcond=None)[0]
    variance = np.square(METRICS.ravel() - fitted).sum() / 15
    found = pooled_t(METRICS, against_first(3))
    assert found.se == pytest.approx(np.full(3, np.sqrt(2 * variance / 6)))
    assert found.df.tolist() == [15, 15, 15]
    assert found.mean == pytest.approx(METRICS.mean(axis=1)[1:] - METRICS.mean(axis=1)[0])


@given(arrays(float, 6, elements=st.integers(-50, 50).map(lambda value: value / 100)))
def test_what_a_seed_does_to_all_conditions_is_irrelevant(by_seed):
    found, expected = (
        pooled_t(values, against_first(3)) for values in (METRICS + by_seed, METRICS)
    )
    assert found.mean == pytest.approx(expected.mean)
    assert found.se == pytest.approx(expected.se)


def test_without_spread_nothing_is_tested():
    found = pooled_t(np.arange(3.0)[:, None] * np.ones(4), against_first(2))
    assert found.se.tolist() == [0, 0]


def test_a_block_needs_two_of_each():
    with pytest.raises(ValueError, match="needs 2 conditions and 2 seeds, not 3 and 1"):
        pooled_t(np.zeros((3, 1)), against_first(2))
