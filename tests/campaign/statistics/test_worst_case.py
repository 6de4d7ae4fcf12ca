import numpy as np
import pytest

from retrain_campaign.statistics.estimates import paired_t
from retrain_campaign.statistics.worst_case import worst_case

DIFFERENCES = np.array([0.04, 0.05, 0.06, 0.05])


def test_no_value_of_the_missing_seeds_leaves_the_bounds():
    bounds = [(-0.5, 0.5), (-0.2, 0.8)]
    found = worst_case(DIFFERENCES, bounds, 0.05)
    assert found.mean == pytest.approx(((0.2 - 0.7) / 6, (0.2 + 1.3) / 6))
    values = np.random.default_rng(1).uniform(*np.transpose(bounds), (5_000, 2))
    known = np.broadcast_to(DIFFERENCES, (5_000, 4))
    low, high = paired_t(np.concatenate([known, values], axis=1)).interval(0.05)
    assert found.interval[0] <= low.min()
    assert found.interval[1] >= high.max()


def test_bounds_that_are_a_point_change_nothing():
    found = worst_case(DIFFERENCES[:3], [(0.05, 0.05)], 0.1)
    assert found.interval == pytest.approx(paired_t(DIFFERENCES).interval(0.1))


@pytest.mark.parametrize(("known", "missing"), [(0, 1), (4, 13)])
def test_an_interval_needs_two_seeds_and_few_missing(known, missing):
    found = worst_case(DIFFERENCES[:known], [(-1.0, 1.0)] * missing, 0.05)
    assert found.interval == (-np.inf, np.inf)
    assert found.mean[0] < 0 < found.mean[1]
