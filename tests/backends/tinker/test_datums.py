import numpy as np
import pytest
import tinker
from hypothesis import given
from hypothesis import strategies as st

from retrain_backends.tinker.datums import (
    ServiceLoss,
    completion_logprobs,
    datums_to_score,
    datums_to_train,
    datums_without_gradient,
    has_gradient,
    split_by_tokens,
)
from retrain_backends.types import TrainBatch
from retrain_core import LossOptions


def tokens(*ids: int) -> np.ndarray:
    return np.array(ids, np.int64)


@pytest.fixture
def batch() -> TrainBatch:
    """Two prompts, with two completions and one; the fourth token is an environment's."""
    return TrainBatch(
        prompts=[tokens(1, 2, 3), tokens(4)],
        group_offsets_g=np.array([0, 2, 3]),
        token_offsets_n=np.array([0, 2, 5, 6]),
        tokens_t=tokens(10, 11, 20, 21, 22, 30),
        logprobs_t=np.array([-0.1, -0.2, -0.3, np.nan, -0.5, -0.6]),
        advantages_t=np.array([1.0, 1.0, -2.0, 7.0, -2.0, 0.0]),
        trained_t=np.array([True, True, True, False, True, True]),
        temperature=1.0,
        step=0,
        seed=0,
    )


def array(datum, name: str) -> list[float]:
    return pytest.approx(datum.loss_fn_inputs[name].tolist())


def test_targets_are_one_ahead_and_prompts_weigh_nothing(batch):
    first, second, third = datums_to_train(batch)
    assert first.model_input.to_ints() == [1, 2, 3, 10]
    assert first.loss_fn_inputs["target_tokens"].tolist() == [2, 3, 10, 11]
    assert array(first, "logprobs") == [0.0, 0.0, -0.1, -0.2]
    assert array(first, "advantages") == [0.0, 0.0, 0.2, 0.2]
    assert array(second, "advantages") == [0.0, 0.0, -0.4, 0.0, -0.4]
    assert array(second, "logprobs") == [0.0, 0.0, -0.3, 0.0, -0.5]
    assert third.model_input.to_ints() == [4]
    assert third.loss_fn_inputs["target_tokens"].tolist() == [30]


def test_advantages_sum_to_the_mean_over_trained_tokens(batch):
    total = sum(
        sum(datum.loss_fn_inputs["advantages"].tolist()) for datum in datums_to_train(batch)
    )
    assert total == pytest.approx(batch.advantages_t[batch.trained_t].mean())


def test_what_is_only_looked_at_has_no_advantages():
    [scored] = datums_to_score([tokens(1, 2)], [tokens(3)])
    [still] = datums_without_gradient([tokens(1, 2)], [tokens(3)])
    assert array(scored, "weights") == [0.0, 1.0]
    assert array(still, "advantages") == [0.0, 0.0]


@given(st.lists(st.integers(1, 20), max_size=30), st.integers(1, 40))
def test_parts_keep_the_order_and_the_limit(lengths, most):
    prompts = [tokens(0)] * len(lengths)
    datums = datums_to_score(prompts, [np.arange(length) for length in lengths])
    cut = list(split_by_tokens(datums, most))
    assert [datum for part in cut for datum in part] == datums
    for part in cut:
        assert len(part) == 1 or sum(datum.model_input.length for datum in part) <= most


@pytest.mark.parametrize(
    ("bounds", "name", "config"),
    [
        (LossOptions(), "importance_sampling", None),
        (LossOptions(clip_eps=0.2), "ppo", (0.8, 1.2)),
        (LossOptions(clip_eps=0.2, clip_eps_high=0.28), "ppo", (0.8, 1.28)),
        (LossOptions(importance_cap=2.0), "cispo", (0.0, 2.0)),
    ],
)
def test_bounds_on_the_ratio_have_the_names_of_the_service(bounds, name, config):
    loss = ServiceLoss.of(bounds)
    assert loss.name == name
    assert (loss.config and tuple(loss.config.values())) == pytest.approx(config)


def test_log_probs_of_completions_are_the_last_ones():

    outputs = [{"logprobs": tinker.TensorData.from_numpy(np.arange(4.0, dtype=np.float32))}]
    assert completion_logprobs(outputs, [2])[0].tolist() == [2.0, 3.0]
    with pytest.raises(ValueError, match="4 log-probs for a completion of 5 tokens"):
        completion_logprobs(outputs, [5])


@pytest.mark.parametrize(
    ("advantages", "tokens", "masked", "expected"),
    [
        ([1, 1, -1, -1], [5, 6, 5, 6], (), False),
        ([1, 1, -1, -1], [5, 6, 5, 7], (), True),
        ([1, 2, -1, -1], [5, 6, 5, 6], (), True),
        ([0, 0, 0, 0], [5, 6, 7, 8], (), False),
        ([0, 1, 0, 0], [5, 6, 7, 8], (1,), False),
    ],
)
def test_equal_completions_may_leave_no_gradient(advantages, tokens, masked, expected):
    trained = np.ones(4, np.bool_)
    trained[list(masked)] = False
    batch = TrainBatch(
        prompts=[np.array([1, 2])],
        group_offsets_g=np.array([0, 2]),
        token_offsets_n=np.array([0, 2, 4]),
        tokens_t=np.array(tokens),
        logprobs_t=np.full(4, -3.0),
        advantages_t=np.array(advantages, np.float64),
        trained_t=trained,
        temperature=1.0,
        step=0,
        seed=3,
    )
    assert has_gradient(batch) is expected
