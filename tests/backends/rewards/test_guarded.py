import numpy as np
import pytest

from retrain_backends.errors import describe
from retrain_backends.rewards.guarded import GuardedReward
from retrain_backends.types import Example, Rollout, Verdict


class LengthReward:
    """The length of the response; fails on `bad`."""

    def score(self, items):
        if any(item.completion == "bad" for item in items):
            raise ZeroDivisionError("no such thing")
        return [Verdict(float(len(item.completion))) for item in items]


class Silent(Exception):  # noqa: N818
    def __str__(self):
        raise ValueError


class Raising:
    def __init__(self, error):
        self.error = error

    def score(self, _items):
        raise self.error


class Constant:
    def __init__(self, *verdicts):
        self.verdicts = list(verdicts)

    def score(self, _items):
        return self.verdicts


def items(*responses):
    return [Rollout(Example("q", "1"), response) for response in responses]


def test_a_failure_costs_only_its_own_completion():
    verdicts = GuardedReward(LengthReward()).score(items("one", "bad", "three"))
    assert [verdict.value for verdict in verdicts] == [3.0, None, 5.0]
    assert verdicts[1].reason == "ZeroDivisionError: no such thing"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_reward_that_is_not_finite_is_no_verdict(value):
    [verdict] = GuardedReward(Constant(Verdict(value))).score(items("x"))
    assert verdict == Verdict(None, f"the reward is {value}")


@pytest.mark.parametrize("verdicts", [[], [0.5], [Verdict(1.0), Verdict(0.0)]])
def test_a_wrong_answer_of_the_reward_is_no_verdict(verdicts):
    [verdict] = GuardedReward(Constant(*verdicts)).score(items("x"))
    assert verdict.value is None
    assert verdict.reason


@pytest.mark.parametrize("error", [SystemExit(0), Silent()])
def test_a_reward_can_neither_leave_nor_fail_in_silence(error):
    verdicts = GuardedReward(Raising(error)).score(items("one", "two"))
    assert verdicts == [Verdict(None, describe(error))] * 2


def test_a_number_of_numpy_becomes_one_of_python():
    [verdict] = GuardedReward(Constant(Verdict(np.float32(0.5), text="so so"))).score(items("x"))
    assert verdict == Verdict(0.5, text="so so")
    assert type(verdict.value) is float


def test_nothing_to_score():
    assert GuardedReward(LengthReward()).score([]) == []
