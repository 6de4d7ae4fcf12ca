import numpy as np
import pytest
from scipy import stats

from retrain_campaign.statistics.noise_floor import noise_floor


def test_the_spread_is_about_zero():
    found = noise_floor(np.array([0.03, 0.04, 0.0]), seeds=4, alpha=0.1)
    assert found.pairs == 3
    assert found.sd == pytest.approx(0.05 / np.sqrt(3))
    assert found.band == pytest.approx(stats.t.ppf(0.95, 3) * found.sd / 2)
    assert found.sd_high > found.sd
    assert found.false_alarms is None


def test_the_band_holds_the_mean_of_equal_conditions():
    rng = np.random.default_rng(3)
    pairs, means = rng.normal(size=(1_000, 3)), rng.normal(size=(1_000, 5)).mean(axis=1)
    inside = [
        abs(mean) < noise_floor(pair, 5).band for pair, mean in zip(pairs, means, strict=True)
    ]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.02)


def test_false_alarms_of_the_test_on_these_pairs_are_near_alpha():
    differences = np.random.default_rng(4).normal(0, 0.02, 12)
    assert noise_floor(differences, 8).false_alarms == pytest.approx(0.05, abs=0.02)
    assert (
        noise_floor(-differences[::-1], 8).false_alarms == noise_floor(differences, 8).false_alarms
    )


@pytest.mark.parametrize(("pairs", "seeds"), [(0, 3), (3, 0)])
def test_a_floor_needs_a_pair_and_a_seed(pairs, seeds):
    with pytest.raises(ValueError, match="needs a pair and a seed"):
        noise_floor(np.zeros(pairs), seeds)
