import numpy as np
import pytest

from retrain_test_support.tinker.losses import loss
from retrain_test_support.tinker.policy import (
    AdamSettings,
    AdamState,
    BigramPolicy,
    Draw,
    LoraWeights,
    adam_step,
    add,
    first_adapter,
    gradient_norm,
    zeros_like,
)

VOCABULARY, RANK = 7, 2
INPUTS = np.array([0, 3, 3, 6, 1, 2])
TARGETS = np.array([3, 3, 6, 1, 2, 2])
OLD = np.array([-1.0, -2.5, -1.5, -0.7, -3.0, -2.0])
ADVANTAGES = np.array([0.0, 1.0, -1.0, 0.5, -2.0, 2.0])
POLICY_INPUTS = {"logprobs": OLD, "advantages": ADVANTAGES}
LOSSES = [
    ("cross_entropy", {"weights": np.array([0.0, 1.0, 0.5, -1.0, 2.0, 1.0])}, {}),
    ("importance_sampling", POLICY_INPUTS, {}),
    ("ppo", POLICY_INPUTS, {}),
    ("ppo", POLICY_INPUTS, {"clip_low_threshold": 0.5, "clip_high_threshold": 3.0}),
]


@pytest.fixture
def policy():
    return BigramPolicy(VOCABULARY, seed=3)


@pytest.fixture
def adapter():
    """Weights away from the start, where B is zero."""
    rng = np.random.default_rng(5)
    return LoraWeights(
        rng.normal(size=(VOCABULARY, RANK)), rng.normal(size=(RANK, VOCABULARY)) / 10
    )


def finite_differences(function, adapter, step=1e-6):
    """Central differences of a function of the weights."""
    slopes = zeros_like(adapter)
    for place, slope in zip(adapter, slopes, strict=True):
        for index in np.ndindex(place.shape):
            here = place[index]
            place[index] = here + step
            above = function(adapter)
            place[index] = here - step
            slope[index] = (above - function(adapter)) / (2 * step)
            place[index] = here
    return slopes


@pytest.mark.parametrize(("name", "inputs", "config"), LOSSES)
def test_gradients_are_those_of_the_loss(policy, adapter, name, inputs, config):
    def value(weights):
        return loss(name, policy.logprobs(INPUTS, TARGETS, weights), inputs, config).value

    slope = loss(name, policy.logprobs(INPUTS, TARGETS, adapter), inputs, config).slope_T
    found = policy.gradient(INPUTS, TARGETS, slope, adapter)
    wanted = finite_differences(value, adapter)
    np.testing.assert_allclose(found.a_VR, wanted.a_VR, atol=1e-6)
    np.testing.assert_allclose(found.b_RV, wanted.b_RV, atol=1e-6)


def test_cispo_holds_the_clipped_ratio_constant(policy, adapter):
    here = policy.logprobs(INPUTS, TARGETS, adapter)
    ratio = np.clip(np.exp(here - OLD), 0.9, 1.1)

    def value(weights):
        return -(ratio * ADVANTAGES * policy.logprobs(INPUTS, TARGETS, weights)).sum()

    config = {"clip_low_threshold": 0.9, "clip_high_threshold": 1.1}
    found = loss("cispo", here, POLICY_INPUTS, config)
    assert found.value == pytest.approx(value(adapter))
    gradient = policy.gradient(INPUTS, TARGETS, found.slope_T, adapter)
    wanted = finite_differences(value, adapter)
    np.testing.assert_allclose(gradient.a_VR, wanted.a_VR, atol=1e-6)
    np.testing.assert_allclose(gradient.b_RV, wanted.b_RV, atol=1e-6)


def test_ppo_is_flat_where_the_bound_binds():
    new = np.log([0.5, 0.5, 2.0, 2.0])
    inputs = {"logprobs": np.zeros(4), "advantages": np.array([1.0, -1.0, 1.0, -1.0])}
    value, slope = loss("ppo", new, inputs, {})
    np.testing.assert_allclose(slope, [-0.5, 0.0, 0.0, 2.0])
    assert value == pytest.approx(-(0.5 - 0.8 + 1.2 - 2.0))


@pytest.mark.parametrize(
    ("name", "inputs", "config", "says"),
    [
        ("dro", POLICY_INPUTS, {}, "unknown loss_fn `dro`"),
        ("ppo", {"weights": OLD}, {}, r"takes \['advantages', 'logprobs'\]"),
        ("cross_entropy", {"weights": OLD}, {"clip_low_threshold": 1.0}, "has the settings"),
    ],
)
def test_nonsense_is_refused(name, inputs, config, says):
    with pytest.raises(ValueError, match=says):
        loss(name, OLD, inputs, config)


def test_adam_is_the_textbooks(adapter):
    """Against one weight at a time, two steps, with weight decay and clipping."""
    settings = AdamSettings(0.1, 0.9, 0.95, 1e-8, weight_decay=0.2, grad_clip_norm=1.0)
    gradients = [
        LoraWeights(adapter.a_VR + 1, adapter.b_RV - 1),
        LoraWeights(adapter.a_VR * 1e-3, adapter.b_RV * 1e-3),
    ]
    nothing = zeros_like(adapter)
    found, state = adapter, AdamState(0, nothing, nothing)
    weight, mean, square = float(adapter.b_RV[1, 2]), 0.0, 0.0
    for step, gradient in enumerate(gradients, start=1):
        found, state = adam_step(found, gradient, state, settings)
        slope = float(gradient.b_RV[1, 2]) / max(1.0, gradient_norm(gradient))
        mean = 0.9 * mean + 0.1 * slope
        square = 0.95 * square + 0.05 * slope**2
        unbiased = mean / (1 - 0.9**step), square / (1 - 0.95**step)
        weight -= 0.1 * 0.2 * weight + 0.1 * unbiased[0] / (unbiased[1] ** 0.5 + 1e-8)
        assert found.b_RV[1, 2] == pytest.approx(weight, abs=1e-12)
    assert state.steps == 2


def test_gradients_add_up(adapter):
    twice = add(adapter, adapter)
    assert gradient_norm(twice) == pytest.approx(2 * gradient_norm(adapter))


def test_a_new_adapter_changes_nothing_and_depends_on_its_seed(policy):
    adapter = first_adapter(VOCABULARY, RANK, seed=1)
    np.testing.assert_array_equal(policy.logits(INPUTS, adapter), policy.logits(INPUTS, None))
    assert not np.array_equal(adapter.a_VR, first_adapter(VOCABULARY, RANK, seed=2).a_VR)


def test_samples_follow_the_distribution(policy):
    draw = Draw(max_tokens=1, temperature=2.0)
    tokens = [int(policy.sample(4, None, draw, [0, i]).tokens_T[0]) for i in range(4000)]
    wanted = np.exp(policy.logits(np.array([4]), None)[0] / 2)
    shares = np.bincount(tokens, minlength=VOCABULARY) / len(tokens)
    np.testing.assert_allclose(shares, wanted / wanted.sum(), atol=0.03)


@pytest.mark.parametrize("limits", [{"top_k": 2}, {"top_p": 0.3}, {"temperature": 0.0}])
def test_truncation_keeps_the_likeliest(policy, limits):
    likeliest = np.argsort(-policy.logits(np.array([4]), None)[0])
    kept = 1 if "temperature" in limits else 2
    draw = Draw(max_tokens=1, **limits)
    drawn = {int(policy.sample(4, None, draw, [0, i]).tokens_T[0]) for i in range(200)}
    assert drawn <= set(likeliest[:kept].tolist())
    assert int(likeliest[0]) in drawn


def test_a_sample_is_a_function_of_its_seeds(policy, adapter):
    draw = Draw(max_tokens=12)
    first = policy.sample(1, adapter, draw, [7, 0])
    np.testing.assert_array_equal(first.tokens_T, policy.sample(1, adapter, draw, [7, 0]).tokens_T)
    assert first.tokens_T.tolist() != policy.sample(1, adapter, draw, [7, 1]).tokens_T.tolist()
    short = policy.sample(1, adapter, Draw(max_tokens=5), [7, 0])
    np.testing.assert_array_equal(short.tokens_T, first.tokens_T[:5])


def test_a_stop_token_ends_the_sample_and_is_part_of_it(policy):
    tokens = policy.sample(1, None, Draw(max_tokens=12), [7, 0]).tokens_T.tolist()
    stop = tokens[3]
    ended = policy.sample(1, None, Draw(max_tokens=12, stop=frozenset([stop])), [7, 0])
    assert ended.stopped
    assert ended.tokens_T.tolist() == tokens[: tokens.index(stop) + 1]
