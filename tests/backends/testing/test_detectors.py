import numpy as np
import pytest

from retrain_backends.config import PlanningConfig
from retrain_backends.errors import PluginError
from retrain_backends.planning import build_detector
from retrain_backends.testing import DETECTOR_CHECKS, DetectorCase


def regex():
    return build_detector(PlanningConfig(), "")


class Everything:
    def masks(self, completions):
        return [np.ones(len(tokens), np.bool_) for tokens in completions]


class Longest(Everything):
    """Marks the longest completion."""

    def masks(self, completions):
        longest = max(map(len, completions), default=0)
        return [np.full(len(tokens), len(tokens) == longest) for tokens in completions]


class Once(Everything):
    """Marks what it sees for the first time."""

    def __init__(self):
        self.seen = set()

    def masks(self, completions):
        new = [tuple(tokens) not in self.seen for tokens in completions]
        self.seen.update(map(tuple, completions))
        return [np.full(len(c), is_new) for c, is_new in zip(completions, new, strict=True)]


class Short(Everything):
    def masks(self, completions):
        return super().masks(completions)[1:]


@pytest.mark.parametrize("check", DETECTOR_CHECKS, ids=lambda check: check.__name__)
def test_the_regex_detector_conforms(check):
    check(DetectorCase(make=regex))


@pytest.mark.parametrize(
    ("broken", "caught_by", "error"),
    [
        (Short, "check_every_token_has_a_mark", PluginError),
        (Everything, "check_planning_is_marked", AssertionError),
        (Longest, "check_completions_are_independent", AssertionError),
        (Once, "check_steps_are_independent", AssertionError),
    ],
)
def test_the_suite_catches_a_broken_detector(broken, caught_by, error):
    check = next(check for check in DETECTOR_CHECKS if check.__name__ == caught_by)
    with pytest.raises(error):
        check(DetectorCase(make=broken))
