from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from retrain_core import (
    entropy_mask,
    entropy_threshold,
    gtpo,
    hicra,
    offsets_from_lengths,
    sepa_amp,
    sepa_amp_clamped,
    sepa_pool,
)

SEPA = {"sepa_pool": sepa_pool, "sepa_amp": sepa_amp, "sepa_amp_clamped": sepa_amp_clamped}

uncertainties = st.lists(st.floats(0, 40), min_size=1, max_size=30).map(np.array)
lambdas = st.floats(0, 1)


def masks(size):
    return st.lists(st.booleans(), min_size=size, max_size=size).map(lambda m: np.array(m, bool))


@pytest.mark.golden("token_transforms", "gtpo")
def test_golden_gtpo(case, check, numbers):
    inputs = case["inputs"]
    check(case, gtpo(inputs["advantage"], numbers(inputs["surprisals"]), **case["params"]))


@pytest.mark.golden("token_transforms", "hicra")
def test_golden_hicra(case, check, numbers):
    inputs = case["inputs"]
    planning = numbers(inputs["planning_mask"]) == 1
    check(case, hicra(inputs["token_advantages"], planning, **case["params"]))


@pytest.mark.golden("token_transforms", "sepa_pool", "sepa_amp", "sepa_amp_clamped")
def test_golden_sepa(case, check, numbers):
    planning = numbers(case["inputs"]["planning_mask"]) == 1
    surprisals = numbers(case["inputs"]["surprisals"])
    check(case, SEPA[case["function"]](surprisals, planning, case["params"]["lambda"]))


@pytest.mark.golden("token_transforms", "entropy_mask")
def test_golden_entropy_mask(case, check, numbers):
    surprisals, rho = numbers(case["inputs"]["surprisals"]), case["params"]["rho"]
    advantages = numbers(case["inputs"]["token_advantages"])
    got = {
        "threshold": entropy_threshold(surprisals, rho),
        "token_advantages": entropy_mask(advantages, surprisals, rho),
    }
    check(case, got)


@given(h=uncertainties, beta=st.floats(0, 1))
def test_gtpo_weights_average_one_when_none_is_floored(h, beta):
    # With beta <= 1 no weight can fall below 0: the smallest possible is 1 - beta.
    weights = gtpo(1.0, h, beta)
    assert abs(weights.mean() - 1.0) < 1e-6 + 1e-8 / max(h.mean(), 1e-7)


@given(h=uncertainties, alpha=st.floats(0, 1), data=st.data())
def test_hicra_leaves_execution_tokens_alone(h, alpha, data):
    planning = data.draw(masks(h.size))
    advantages = h - 1.0
    raised = hicra(advantages, planning, alpha)
    np.testing.assert_array_equal(raised[~planning], advantages[~planning])
    assert (raised[planning] >= advantages[planning]).all()


@pytest.mark.parametrize("sepa", [sepa_pool, sepa_amp])
@given(h=uncertainties, lam=lambdas, data=st.data())
def test_sepa_keeps_planning_tokens_and_the_execution_mean(sepa, h, lam, data):
    planning = data.draw(masks(h.size))
    changed = sepa(h, planning, lam)
    np.testing.assert_array_equal(changed[planning], h[planning])
    if not planning.all():
        assert abs(changed[~planning].mean() - h[~planning].mean()) < 1e-12 * 50


@pytest.mark.parametrize("sepa", SEPA.values())
def test_lambda_zero_leaves_uncertainty_untouched(sepa):
    h = np.array([0.3, 1.7, 0.0])
    np.testing.assert_array_equal(sepa(h, np.array([True, False, False]), 0.0), h)


@given(
    lengths=st.lists(st.integers(0, 5), min_size=1, max_size=6), lam=lambdas, seed=st.integers(0, 9)
)
def test_completions_end_to_end_equal_each_alone(lengths, lam, seed):
    rng = np.random.default_rng(seed)
    offsets = offsets_from_lengths(lengths)
    h, planning = rng.exponential(size=offsets[-1]), rng.random(offsets[-1]) < 0.3
    advantages = rng.normal(size=len(lengths))
    pooled = sepa_pool(h, planning, lam, offsets)
    weighed = gtpo(advantages, pooled, 0.5, offsets)
    masked = entropy_mask(weighed, h, 0.4, offsets)
    for i, (start, end) in enumerate(pairwise(offsets)):
        one = slice(start, end)
        alone = sepa_pool(h[one], planning[one], lam)
        np.testing.assert_allclose(pooled[one], alone, atol=1e-12)
        alone = gtpo(advantages[i], alone, 0.5)
        np.testing.assert_allclose(weighed[one], alone, atol=1e-12)
        np.testing.assert_allclose(masked[one], entropy_mask(alone, h[one], 0.4), atol=1e-12)


def without_floor(h, beta):
    """The weights of `gtpo` before they are floored at 0."""
    return 1 + beta * (h / (h.mean() + 1e-8) - 1)


@pytest.mark.parametrize("sepa", [sepa_pool, sepa_amp_clamped], ids=lambda f: f.__name__)
@given(h=uncertainties, lam=lambdas, beta=st.floats(0, 1), data=st.data())
def test_with_beta_up_to_1_the_floor_changes_nothing(sepa, h, lam, beta, data):
    h = np.minimum(sepa(h, data.draw(masks(len(h))), lam), 50)
    assume(h.mean() > 1e-6)
    np.testing.assert_allclose(gtpo(1.0, h, beta), without_floor(h, beta), atol=1e-9)


@given(h=uncertainties, lam=lambdas, beta=st.floats(0, 1), data=st.data())
def test_amplified_the_floor_changes_nothing_within_its_bound(h, lam, beta, data):
    planning = data.draw(masks(len(h)))
    amplified = sepa_amp(h, planning, lam)
    assume(h.mean() > 1e-6 and amplified.max() <= 50)
    mu_x = h[~planning].mean() if not planning.all() else 0.0
    assume(beta * (1 + lam * mu_x / h.mean()) <= 1)
    expected = without_floor(amplified, beta)
    np.testing.assert_allclose(gtpo(1.0, amplified, beta), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("h", "planning", "beta"),
    [
        ([0, 0, 1, 5], 0, 0.6),  # above 1/2, execution tokens alone
        ([0] * 20 + [2], 19, 0.1),  # 19 certain planning tokens
        ([0] * 9 + [50], 0, 0.1),  # 95 after `sepa_amp`, which counts as 50
    ],
)
def test_amplified_a_weight_can_be_floored(h, planning, beta):
    weights = gtpo(1.0, sepa_amp(h, np.arange(len(h)) < planning, 1.0), beta)
    assert weights.min() == 0
    assert weights.mean() > 1.001


def test_gtpo_with_a_negative_mean_gives_every_token_the_advantage():
    np.testing.assert_array_equal(gtpo(0.7, [-2.0, 1.0]), [0.7, 0.7])


@pytest.mark.parametrize("rho", [0.0, -1.0, 1.0, 3.0])
def test_entropy_mask_off_or_all(rho):
    np.testing.assert_array_equal(entropy_mask([1.0, -2.0], [0.1, 0.2], rho), [1.0, -2.0])


def test_entropy_mask_keeps_equal_values_at_the_threshold():
    np.testing.assert_array_equal(
        entropy_mask([1.0, 2.0, 3.0], [0.5, 0.5, 0.1], 0.34), [1.0, 2.0, 0.0]
    )


def test_nothing_is_changed_in_place():
    h, planning = np.array([60.0, 1.0, 2.0]), np.array([True, False, False])
    for sepa in SEPA.values():
        sepa(h, planning, 0.5)
    gtpo(1.0, h)
    hicra(h, planning)
    entropy_mask(h, h, 0.5)
    np.testing.assert_array_equal(h, [60.0, 1.0, 2.0])


def test_one_advantage_for_each_completion():
    with pytest.raises(ValueError, match="advantage has 2 entries, but there are 1 completions"):
        gtpo([1.0, 2.0], [0.1, 0.2])
