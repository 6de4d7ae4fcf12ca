import numpy as np
import pytest

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
