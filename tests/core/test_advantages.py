import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrain_core import ADVANTAGE_MODES, grpo, grpo_std, maxrl, rloo

# Eighths add up exactly, so that the order of a sum does not show.
rewards = st.lists(st.integers(-80, 80).map(lambda eighths: eighths / 8), max_size=12)


@pytest.mark.golden("episode_advantages", "episode_advantage")
def test_golden(case, check):
    params = dict(case["params"])
    advantages = ADVANTAGE_MODES[params.pop("mode")](case["inputs"]["rewards"], **params)
    check(case, advantages)


def test_grpo_std_divides_by_the_population_deviation():
    np.testing.assert_allclose(grpo_std([0.0, 1.0]), np.array([-0.5, 0.5]) / 0.5001)


@pytest.mark.parametrize(("size", "percent"), [(4, 15), (16, 3)])
def test_grpo_std_is_larger_than_with_the_deviation_of_a_sample(size, percent):
    rewards = np.arange(size) % 4 == 0
    ratio = grpo_std(rewards) / (grpo(rewards) / np.std(rewards, ddof=1))
    assert round(100 * (ratio.mean() - 1)) == percent


def test_rloo_compares_with_the_others():
    np.testing.assert_allclose(rloo([1.0, 0.0, 0.0]), [1.0, -0.5, -0.5])


@pytest.mark.parametrize("mode", sorted(ADVANTAGE_MODES))
def test_edges(mode):
    advantage = ADVANTAGE_MODES[mode]
    assert advantage([]).shape == (0,)
    np.testing.assert_array_equal(advantage([0.7]), [0.0])
    np.testing.assert_array_equal(advantage([1.0, 1.0, 1.0]), [0.0, 0.0, 0.0])


def test_maxrl_of_binary_rewards():
    # One right answer of four: (G - k) / k = 3 for it, -1 for each of the others.
    np.testing.assert_allclose(maxrl([0.0, 1.0, 0.0, 0.0]), [-1.0, 3.0, -1.0, -1.0], rtol=1e-5)


@pytest.mark.parametrize("eps", [0.0, 0.5])
def test_maxrl_gives_zeros_up_to_a_mean_of_eps(eps):
    np.testing.assert_array_equal(maxrl([0.0, 2 * eps], eps=eps), [0.0, 0.0])


@pytest.mark.parametrize("mode", sorted(ADVANTAGE_MODES))
@given(rewards=rewards, data=st.data())
def test_permuting_completions_permutes_advantages(mode, rewards, data):
    order = data.draw(st.permutations(range(len(rewards))))
    array, order = np.array(rewards), np.array(order, dtype=int)
    advantage = ADVANTAGE_MODES[mode]
    np.testing.assert_allclose(advantage(array[order]), advantage(array)[order], atol=1e-8)


@given(rewards=rewards)
def test_grpo_sums_to_zero_and_leaves_its_input_alone(rewards):
    array = np.array(rewards)
    before = array.copy()
    assert abs(grpo(array).sum()) < 1e-9
    np.testing.assert_array_equal(array, before)


def test_a_matrix_is_refused():
    with pytest.raises(ValueError, match="rewards must have 1 dimension"):
        grpo([[1.0, 0.0]])
