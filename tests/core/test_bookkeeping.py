import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrain_core import (
    RunningCount,
    informative_groups,
    offsets_from_lengths,
    reward_ties,
    step_bookkeeping,
)


def flat(groups, key):
    return [value for group in groups for value in group[key]]


@pytest.mark.golden("step_bookkeeping", "step_bookkeeping")
def test_golden_steps(case, check):
    running, steps = RunningCount(), []
    for step in case["inputs"]["steps"]:
        groups = step["groups"]
        result = step_bookkeeping(
            flat(groups, "rewards"),
            offsets_from_lengths([len(group["rewards"]) for group in groups]),
            flat(groups, "lengths"),
            case["params"]["max_tokens"],
            running=running,
        )
        running = result.running
        steps.append(result._asdict())
    check(case, {"steps": steps})


@pytest.mark.golden("advantage_postprocess", "reward_ties")
def test_golden_ties(case, check):
    check(case, reward_ties(case["inputs"]["rewards"], **case["params"])._asdict())


def test_informative_groups():
    rewards = [1.0, 0.0, 0.3, 0.3, 0.9, 0.5, 0.5000005]
    got = informative_groups(rewards, [0, 2, 4, 4, 5, 7])
    np.testing.assert_array_equal(got, [True, False, False, False, False])


def test_uniform_groups_are_all_correct_all_wrong_or_tied():
    step = step_bookkeeping([1, 1, 0, 0, 0.3, 0.3, 1, 0, 1], [0, 2, 4, 6, 8, 9], [3] * 9, 4)
    assert (step.all_correct, step.all_wrong, step.tied) == (2, 1, 1)
    np.testing.assert_array_equal(step.kept_groups, [3])
    assert step.uniform_group_rate == 0.8


def test_no_verdict_is_counted_and_is_never_zero():
    rewards = [1.0, np.nan, np.nan, 0.0, 1.0, np.nan]
    scored = np.array([True, False, False, True, True, False])
    step = step_bookkeeping(rewards, [0, 3, 5, 6], [9] * 6, 9, scored, RunningCount(1, 1))
    assert (step.no_verdict, step.scored_count, step.correct_count) == (3, 3, 2)
    assert step.mean_reward == step.correct_rate == 2 / 3
    assert step.running == (3, 4)
    assert step.max_token_hit_rate == 1.0
    # What is left of the first group is one completion: uniform. The last group is empty.
    np.testing.assert_array_equal(step.kept_groups, [1])
    assert (step.all_correct, step.all_wrong, step.tied) == (1, 0, 0)


@given(
    sizes=st.lists(st.integers(1, 4), max_size=5), place=st.integers(0, 5), seed=st.integers(0, 999)
)
def test_an_empty_group_anywhere_changes_no_figure(sizes, place, seed):
    rng, place = np.random.default_rng(seed), min(place, len(sizes))
    rewards, lengths = rng.choice([0.0, 0.3, 1.0], sum(sizes)), rng.integers(1, 5, sum(sizes))
    scored = rng.random(sum(sizes)) < 0.8

    def count(group_sizes):
        offsets = offsets_from_lengths(group_sizes)
        return step_bookkeeping(rewards, offsets, lengths, 4, scored, RunningCount(2, 3))

    without, with_it = count(sizes), count([*sizes[:place], 0, *sizes[place:]])
    moved = without.kept_groups + (without.kept_groups >= place)
    np.testing.assert_array_equal(with_it.kept_groups, moved)
    assert with_it._replace(kept_groups=without.kept_groups) == without
