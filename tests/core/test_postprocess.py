import numpy as np
import pytest

from retrain_core import advantage_cap, batch_advantage_norm, offsets_from_lengths


def cut(flat, rows):
    offsets = offsets_from_lengths([len(row) for row in rows])
    return [list(part) for part in np.split(flat, offsets[1:-1])] if rows else []


@pytest.mark.golden("advantage_postprocess", "batch_advantage_norm")
def test_golden_batch_norm(case, check):
    rows = case["inputs"]["token_advantages"]
    flat = np.array([value for row in rows for value in row], dtype=np.float64)
    # The vectors write 0 where there is no token.
    got = batch_advantage_norm(flat, flat != 0, **case["params"])
    metrics = dict(
        zip(("batch_adv_count", "batch_adv_mean", "batch_adv_std"), got[1:], strict=True)
    )
    check(case, {"token_advantages": cut(got.values, rows), "metrics": metrics})


@pytest.mark.golden("advantage_postprocess", "advantage_cap")
def test_golden_cap(case, check):
    rows = case["inputs"]["token_advantages"]
    flat = np.array([value for row in rows for value in row], dtype=np.float64)
    got = advantage_cap(flat, mask=flat != 0, **case["params"])
    result = {"cap_fraction": got.fraction, "mean_capped_magnitude": got.mean_magnitude}
    check(case, {"token_advantages": cut(got.values, rows), **result})


def test_an_advantage_of_zero_counts_when_the_mask_says_so():
    got = batch_advantage_norm([0.0, 1.0, 5.0], [True, True, False])
    np.testing.assert_allclose(got.values, [-1.0, 1.0, 5.0], rtol=1e-7)


def test_without_a_mask_all_tokens_count():
    assert batch_advantage_norm([1.0, 3.0]).num_tokens == 2
    assert advantage_cap([1.0, 3.0], 2.0).fraction == 0.5


def test_a_cap_must_be_positive():
    with pytest.raises(ValueError, match="advantage_cap must be > 0, got 0"):
        advantage_cap([1.0], 0.0)
