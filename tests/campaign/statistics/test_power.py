import numpy as np
import pytest
from scipy import stats

from retrain_campaign.statistics.estimates import paired_t
from retrain_campaign.statistics.power import (
    Design,
    SeedsNeeded,
    detectable_effect,
    equivalence_power,
    power,
    provable_margin,
    seeds_for_effect,
    seeds_for_margin,
    upper_spread,
)


@pytest.mark.parametrize("seeds", [3, 5, 8, 16])
@pytest.mark.parametrize("effect", [0.0, 0.5, 1.5])
def test_power_is_that_of_the_noncentral_t_distribution(seeds, effect):
    design, shift = Design(seeds), effect * np.sqrt(seeds)
    expected = stats.nct.sf(design.critical, seeds - 1, shift)
    expected += stats.nct.cdf(-design.critical, seeds - 1, shift)
    assert power(effect, design) == pytest.approx(expected, abs=1e-4)


# Sample sizes of G*Power for the paired t test, 80 %, 5 % two-sided.
@pytest.mark.parametrize(("effect", "seeds"), [(0.2, 199), (0.5, 34), (0.8, 15)])
def test_seeds_are_those_of_published_tables(effect, seeds):
    assert seeds_for_effect(effect, 1.0, Design(5)).low == seeds


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [4, 8, 16])
def test_the_detectable_effect_is_that_of_statsmodels(statsmodels, seeds):
    expected = statsmodels.power.TTestPower().solve_power(nobs=seeds, alpha=0.05, power=0.8)
    assert detectable_effect(Design(seeds)) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(("seeds", "contrasts"), [(3, 1), (5, 1), (8, 1), (5, 4)])
def test_the_provable_margin_is_shown_in_80_percent_of_simulated_campaigns(seeds, contrasts):
    design = Design(seeds, contrasts)
    margin = provable_margin(design)
    differences = np.random.default_rng(1).normal(size=(40_000, seeds))
    shown = paired_t(differences).p_equivalence(margin) <= design.alpha / contrasts
    assert shown.mean() == pytest.approx(0.8, abs=0.008)
    assert equivalence_power(margin, design) == pytest.approx(0.8)


@pytest.mark.parametrize("reach", [detectable_effect, provable_margin])
def test_more_seeds_show_more_and_more_contrasts_less(reach):
    assert reach(Design(8)) < reach(Design(5)) < reach(Design(5, contrasts=4))
    assert reach(Design(5, 4, pooled=True)) < reach(Design(5, 4))
    assert reach(Design(5), 0.5) < reach(Design(5), 0.9)


def test_the_upper_limit_of_a_spread_covers_it_in_80_percent():
    found = np.random.default_rng(2).normal(size=(20_000, 5)).std(axis=1, ddof=1)
    factor = upper_spread(1.0, 4)
    assert (found * factor > 1).mean() == pytest.approx(0.8, abs=0.01)


def test_seeds_are_a_range_that_ends_at_a_thousand():
    found = seeds_for_margin(0.01, 0.01, Design(5))
    assert found.low == 11  # 10 seeds show 1.005 standard deviations
    assert found.high > found.low
    assert seeds_for_effect(-0.01, 0.01, Design(5)) == seeds_for_effect(0.01, 0.01, Design(5))
    assert seeds_for_effect(0.1, 0.01, Design(5)).low == 3
    assert seeds_for_effect(1e-5, 0.01, Design(5)) == SeedsNeeded(None, None)


@pytest.mark.parametrize("design", [(1, 1), (3, 0)])
def test_a_design_needs_two_seeds_and_a_contrast(design):
    with pytest.raises(ValueError, match="needs 2 seeds and 1 contrast"):
        Design(*design)
