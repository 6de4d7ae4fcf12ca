import numpy as np
import pytest
from scipy import integrate, stats

from retrain_campaign.statistics.estimates import paired_t
from retrain_campaign.statistics.sequential import (
    anytime_p_value,
    confidence_sequence,
    e_values,
    stops_for_futility,
)

DIFFERENCES = np.array([0.06, 0.02, 0.07, 0.01, 0.05, 0.04, -0.01, 0.03])


@pytest.mark.parametrize("count", [2, 3, 5, 8])
def test_an_e_value_is_the_bayes_factor_of_the_t_test(count):
    seen = DIFFERENCES[:count]
    t_value, df = float(paired_t(seen).t_value()), count - 1

    def weighed(effect):
        likelihood = stats.nct.pdf(t_value, df, effect * np.sqrt(count))
        return likelihood * stats.norm.pdf(effect, scale=np.sqrt(2))

    marginal = integrate.quad(weighed, -8, 8, limit=200)[0]
    expected = marginal / stats.t.pdf(t_value, df)
    assert e_values(seen)[-1] == pytest.approx(expected, rel=1e-4)
    assert e_values(DIFFERENCES)[count - 1] == pytest.approx(e_values(seen)[-1])


def test_evidence_once_found_is_not_lost():
    later = np.append(DIFFERENCES, [-0.9, 0.9, -0.9])
    assert e_values(later)[-1] < e_values(DIFFERENCES)[-1]
    assert anytime_p_value(later) == anytime_p_value(DIFFERENCES)
    assert anytime_p_value(np.array([0.3])) == 1


@pytest.mark.parametrize("alpha", [0.05, 0.3])
@pytest.mark.parametrize("side", [0, 1])
def test_the_ends_of_the_confidence_sequence_have_an_e_value_of_one_over_alpha(alpha, side):
    limit = confidence_sequence(DIFFERENCES, alpha)[side]
    assert e_values(DIFFERENCES - limit)[-1] == pytest.approx(1 / alpha)


def test_few_seeds_bound_nothing():
    assert confidence_sequence(DIFFERENCES[:2], 0.05) == (-np.inf, np.inf)


def test_a_level_of_all_values_is_irrelevant_and_a_sign_is():
    assert e_values(3 * DIFFERENCES) == pytest.approx(e_values(DIFFERENCES))
    assert e_values(-DIFFERENCES) == pytest.approx(e_values(DIFFERENCES))


@pytest.mark.parametrize(
    ("differences", "margin", "stops"),
    [
        ([-0.01, 0.0, 0.01], 0.05, True),
        ([-0.01, 0.0, 0.01], 0.01, False),  # the limit is 0.0109
        ([0.04, 0.05, 0.06], 0.05, False),
        ([-0.01, 0.0, 0.01, 0.0], 0.05, False),  # no look after 4 seeds
        ([-0.01, 0.0, 0.01, 0.0, 0.01], 0.05, True),
        ([0.0, 0.0, 0.0], 0.05, False),  # no spread
        ([0.0], 0.05, False),
    ],
)
def test_futility(differences, margin, stops):
    assert bool(stops_for_futility(np.array(differences), margin)) is stops
