import numpy as np
import pytest

from retrain_core import CompletionBatch

GOOD = {
    "rewards": [1.0, 0.0, 0.5],
    "group_offsets": [0, 2, 3],
    "token_offsets": [0, 2, 2, 5],
    "logprobs": [-0.1, -0.2, -0.3, -0.4, -0.5],
}


def test_lists_become_arrays():
    batch = CompletionBatch(**GOOD, planning=[False, True, False, False, False])
    assert batch.rewards.dtype == batch.logprobs.dtype == np.float64
    np.testing.assert_array_equal(batch.lengths, [2, 0, 3])
    np.testing.assert_array_equal(batch.group_token_offsets, [0, 2, 5])


def test_an_empty_batch_is_fine():
    batch = CompletionBatch([], [0], [0], [])
    assert batch.lengths.size == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rewards": [1.0, np.nan, 0.5]}, "completion 1: the reward nan is not finite"),
        (
            {"logprobs": [-0.1, -0.2, -0.3, -np.inf, -0.5]},
            "completion 2, token 1: the log-prob -inf is not finite",
        ),
        (
            {"entropy": [0.1, np.nan, 0.3, 0.4, 0.5]},
            "completion 0, token 1: the entropy nan is not finite",
        ),
        ({"rewards": [[1.0, 0.0]]}, "rewards must have 1 dimension"),
        ({"group_offsets": [0, 2]}, "group_offsets must start at 0, .* end at the 3 completions"),
        ({"group_offsets": [0, 3, 2, 3]}, "never decrease"),
        ({"token_offsets": [0, 2, 2, 4]}, "end at the 5 tokens"),
        ({"token_offsets": [0, 2, 5]}, "token_offsets has 3 entries, but there are 4"),
        ({"planning": [0, 1, 0, 0, 0]}, "planning must be boolean"),
        ({"planning": [True]}, "planning has 1 entries, but there are 5 tokens"),
        ({"trainable": [True]}, "trainable has 1 entries"),
        ({"entropy": [0.1]}, "entropy has 1 entries"),
    ],
)
def test_bad_input_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        CompletionBatch(**(GOOD | change))


def test_tokens_of_an_environment_are_left_out_and_never_looked_at():
    trainable = [True, False, True, False, True]
    logprobs = [-0.1, np.nan, -0.3, np.nan, -0.5]
    batch = CompletionBatch(**(GOOD | {"logprobs": logprobs}), trainable=trainable)
    sampled = batch.sampled_tokens()
    np.testing.assert_array_equal(sampled.logprobs, [-0.1, -0.3, -0.5])
    np.testing.assert_array_equal(sampled.token_offsets, [0, 1, 1, 3])
    assert sampled.trainable is None
