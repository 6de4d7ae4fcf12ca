import numpy as np
import pytest

from retrain_core import LossOptions, policy_loss, policy_loss_from_logits


def options_of(params):
    """The vectors write 0 for "off", and for "as clip_eps"."""
    return LossOptions(
        clip_eps=params["clip_eps"] or None, clip_eps_high=params["clip_eps_high"] or None
    )


@pytest.mark.golden("policy_loss", "policy_loss")
def test_golden_loss(case, check):
    inputs = {key: np.array(value) for key, value in case["inputs"].items()}
    result = policy_loss(
        inputs["new_logprobs"],
        inputs["old_logprobs"],
        inputs["advantages"],
        inputs["mask"] == 1,
        options_of(case["params"]),
    )
    got = result._asdict() | {
        "mean_abs_logprob_delta": result.mean_abs_logprob_diff,
        "grad_new_logprobs": result.gradient,
    }
    check(case, got)


@pytest.mark.golden("policy_loss", "policy_loss_from_logits")
def test_golden_loss_from_logits(case, check):
    recipe, inputs = case["inputs"]["logits_recipe"], case["inputs"]
    logits = np.round(np.random.default_rng(recipe["seed"]).normal(0, 1.5, recipe["shape"]), 4)
    padded = {key: np.zeros(logits.shape[:2]) for key in ("tokens", "old_logprobs", "advantages")}
    for key, array in padded.items():
        for row, values in enumerate(inputs[key]):
            array[row, : len(values)] = values
    result = policy_loss_from_logits(
        logits,
        padded["tokens"],
        padded["old_logprobs"],
        padded["advantages"],
        padded["advantages"] != 0,  # the vectors' mask
        options_of(case["params"]),
    )
    got = result._asdict() | {
        "mean_abs_logprob_delta": result.mean_abs_logprob_diff,
        "action_token_count": result.num_tokens,
        "grad_logits_abs_sum": np.abs(result.gradient).sum(),
        "grad_logits_row0_pos_last_target": result.gradient[0, len(inputs["tokens"][0]) - 2],
    }
    check(case, got)


@pytest.fixture
def rows():
    rng = np.random.default_rng(3)
    trained = rng.random((3, 6)) < 0.6
    trained[:, 0] = False
    return {
        "logits": rng.normal(size=(3, 6, 5)),
        "tokens": rng.integers(0, 5, (3, 6)),
        "old": -rng.exponential(size=(3, 6)),
        "advantages": rng.normal(size=(3, 6)),
        "trained": trained,
    }


@pytest.mark.parametrize(
    "options",
    [
        LossOptions(),
        LossOptions(temperature=0.7),
        LossOptions(clip_eps=0.2, clip_eps_high=0.3, temperature=1.3),
    ],
)
def test_gradient_is_the_slope_of_the_loss(rows, options):
    logits, *rest = rows.values()
    gradient = policy_loss_from_logits(logits, *rest, options).gradient
    for where in [(0, 1, 2), (1, 3, 0), (2, 4, 4)]:
        step = np.zeros_like(logits)
        step[where] = 1e-6
        up, down = (
            policy_loss_from_logits(logits + sign * step, *rest, options).loss for sign in (1, -1)
        )
        assert gradient[where] == pytest.approx((up - down) / 2e-6, abs=1e-8)


def test_importance_cap_is_a_constant_weight():
    result = policy_loss(
        [0.0, -1.0], [-2.0, -1.0], [1.0, 1.0], [True, True], LossOptions(importance_cap=3.0)
    )
    assert result.loss == pytest.approx(-(3.0 + 1.0) / 2)
    np.testing.assert_allclose(result.gradient, [-1.5, -0.5])
    assert result.clip_fraction == 0.5


def test_diagnostics_are_taken_before_any_bound():
    new, old = np.array([-1.0, -1.5]), np.array([-1.2, -1.0])
    ratio = np.exp(new - old)
    result = policy_loss(new, old, [1.0, 1.0], [True, True], LossOptions(clip_eps=0.01))
    assert result.ratio_max == pytest.approx(ratio.max())
    assert result.ratio_p99 == pytest.approx(np.quantile(ratio, 0.99))
    assert result.kl_k3 == pytest.approx(np.mean(ratio - 1 - np.log(ratio)))
    assert result.mean_abs_logprob_diff == pytest.approx(0.35)


def test_what_untrained_tokens_hold_does_not_matter():
    full = policy_loss([-1.0, np.nan], [-1.1, np.inf], [1.0, np.nan], [True, False])
    assert full.loss == policy_loss([-1.0], [-1.1], [1.0], [True]).loss
    assert full.gradient[1] == 0.0


def test_micro_batches_weighted_by_tokens_give_the_same_gradient(rows):
    logits, *rest = rows.values()
    whole = policy_loss_from_logits(logits, *rest)
    parts = [
        policy_loss_from_logits(logits[i : i + 1], *(array[i : i + 1] for array in rest))
        for i in range(3)
    ]
    weighted = [part.gradient * rest[-1][i].sum() for i, part in enumerate(parts)]
    np.testing.assert_allclose(
        np.concatenate(weighted) / whole.num_tokens, whole.gradient, atol=1e-12
    )


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"clip_eps": 0.0}, "clip_eps must be > 0, got 0.0; None switches"),
        ({"clip_eps_high": 0.2}, "clip_eps_high needs clip_eps"),
        ({"clip_eps": 0.2, "importance_cap": 2.0}, "exclude each other"),
        ({"temperature": 0.0}, "temperature must be > 0"),
    ],
)
def test_bad_options(params, message):
    with pytest.raises(ValueError, match=message):
        LossOptions(**params)


def test_bad_shapes(rows):
    with pytest.raises(ValueError, match="trained must be a boolean mask"):
        policy_loss([-1.0], [-1.0], [1.0], [1])
    with pytest.raises(ValueError, match="advantages has shape"):
        policy_loss([-1.0], [-1.0], [1.0, 2.0], [True])
    with pytest.raises(ValueError, match="do not belong to tokens"):
        policy_loss_from_logits(rows["logits"][:2], *list(rows.values())[1:])
    rows["trained"][0, 0] = True
    with pytest.raises(ValueError, match="first token of a row cannot be trained"):
        policy_loss_from_logits(*rows.values())
