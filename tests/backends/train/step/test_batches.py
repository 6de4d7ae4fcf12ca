import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrain_backends.train.step.batches import BatchOrigin, completion_batch, train_batch
from retrain_backends.train.step.samples import Judged, Samples, count
from retrain_backends.types import Completion, Example, Prompt, Verdict
from retrain_core import RunningCount

LENGTHS = (2, 1, 3, 2, 1, 2)
VERDICTS = (1.0, None, 0.0, None, None, 1.0)  # groups of two: one judged, one judged, one judged


def judged_step(verdicts, group_sizes) -> Judged:
    starts = np.cumsum([0, *LENGTHS])
    completions = [
        Completion(
            tokens_T=np.arange(start, start + length),
            logprobs_T=-np.ones(length),
            stop_reason="stop",
            trainable_T=np.arange(length) > 0 if length == 3 else None,
        )
        for start, length in zip(starts, LENGTHS, strict=False)
    ]
    prompts = [Prompt(Example("q", "a"), "q", np.array([100 + i])) for i in range(len(group_sizes))]
    samples = Samples(
        prompts=prompts,
        completions_n=completions,
        texts_n=["x"] * len(LENGTHS),
        group_sizes_g=np.array(group_sizes),
        planning_t=np.zeros(sum(LENGTHS), dtype=np.bool_),
    )
    return Judged(samples, [Verdict(value) for value in verdicts])


def test_completions_without_a_verdict_leave_their_group():
    batch = completion_batch(judged_step(VERDICTS, [3, 2, 1]))
    assert batch.rewards.tolist() == [1.0, 0.0, 1.0]
    assert batch.group_offsets.tolist() == [0, 2, 3]  # the second group has nobody left
    assert batch.lengths.tolist() == [2, 3, 2]
    assert batch.trainable is not None
    assert batch.trainable.tolist() == [True, True, False, True, True, True, True]


def test_only_informative_groups_are_trained():
    judged = judged_step(VERDICTS, [3, 2, 1])
    counts = count(judged, 3, RunningCount())
    values_t = np.arange(1.0, 8.0)
    batch = train_batch(judged, values_t, counts.kept_groups, BatchOrigin(0.7, 4, 9))
    assert [prompt.tolist() for prompt in batch.prompts] == [[100]]
    assert batch.group_offsets_g.tolist() == [0, 2]
    assert batch.token_offsets_n.tolist() == [0, 2, 5]
    assert batch.tokens_t.tolist() == [0, 1, 3, 4, 5]
    assert batch.advantages_t.tolist() == [1, 2, 3, 4, 5]
    assert batch.trained_t.tolist() == [True, True, False, True, True]
    assert (batch.temperature, batch.step, batch.seed) == (0.7, 4, 9)


def test_nothing_informative_makes_an_empty_batch():
    judged = judged_step([None] * 6, [3, 3])
    counts = count(judged, 3, RunningCount(1, 2))
    batch = train_batch(judged, np.zeros(0), counts.kept_groups, BatchOrigin(1.0, 0, 0))
    assert (len(batch.prompts), batch.tokens_t.size) == (0, 0)
    assert batch.group_offsets_g.tolist() == batch.token_offsets_n.tolist() == [0]
    assert (counts.no_verdict, counts.running) == (6, RunningCount(1, 2))


def test_rates_are_of_all_completions():
    counts = count(judged_step([1, 1, 0, 0, 0, 0.2], [2, 2, 2]), 3, RunningCount())
    assert counts.correct_rate == pytest.approx(1 / 3)
    assert counts.mean_reward == pytest.approx(2.2 / 6)
    assert (counts.all_correct, counts.all_wrong, counts.tied) == (1, 1, 0)
    assert counts.max_token_hit_rate == pytest.approx(1 / 6)


@given(place=st.integers(0, 3), sizes=st.sampled_from([(3, 2, 1), (1, 1, 4), (2, 2, 2)]))
def test_an_empty_group_anywhere_changes_nothing_but_its_own_place(place, sizes):
    verdicts = [1, 0, 1, 1, 0, 0.2]
    whole = judged_step(verdicts, list(sizes))
    holed = judged_step(verdicts, [*sizes[:place], 0, *sizes[place:]])
    assert (whole.samples.failed_prompts, holed.samples.failed_prompts) == (0, 1)
    ones = completion_batch(whole)
    for name, value in vars(completion_batch(holed)).items():
        np.testing.assert_array_equal(value, getattr(ones, name))
    trained = [
        train_batch(
            judged, ones.rewards.repeat(ones.lengths), kept.kept_groups, BatchOrigin(1.0, 0, 0)
        )
        for judged in (whole, holed)
        for kept in [count(judged, 3, RunningCount())]
    ]
    for name, value in vars(trained[0]).items():
        if name != "prompts":
            np.testing.assert_array_equal(getattr(trained[1], name), value)
    assert len(trained[0].prompts) == len(trained[1].prompts)
