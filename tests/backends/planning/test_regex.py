import pytest

from retrain_backends.config import PlanningConfig
from retrain_backends.errors import ConfigError
from retrain_backends.planning import build_detector
from retrain_core import planning_mask


def test_the_default_phrases_are_those_of_the_core():
    tokens = ["So", " let", " me", " ver", "ify", " this", "."]
    [mask] = build_detector(PlanningConfig(), "").masks([tokens])
    assert mask.tolist() == [False, True, True, True, True, False, False]
    assert mask.tolist() == planning_mask(tokens).tolist()


@pytest.mark.parametrize("grams", ["hold on, think again", '["hold on", "think again"]'])
def test_configured_phrases_replace_the_default_ones(grams):
    detector = build_detector(PlanningConfig(), grams)
    [mask] = detector.masks([["Hold", " on", ",", " let", " me", " check"]])
    assert mask.tolist() == [True, True, False, False, False, False]


def test_phrases_that_cannot_be_read():
    with pytest.raises(ConfigError, match=r"logging.strategic_grams: .*not a JSON list"):
        build_detector(PlanningConfig(), '["let me')
