import pytest

from retrain_backends.config import load_config
from retrain_backends.errors import ConfigError
from retrain_backends.train.build import build
from retrain_backends.train.refusals import refuse_clashes
from retrain_backends.types import Capabilities, SamplerCapabilities, TrainerCapabilities

CAN_ALL = Capabilities(TrainerCapabilities(True, True, "exact"), SamplerCapabilities(True))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"training.group_size": 1}, "training.group_size: `1` can never teach: a completion is"),
        ({"training.temperature": 0.0}, "training.temperature: `0` can never teach: the compl"),
        (
            {"training.batch_size": 10**12, "training.group_size": 16},
            "training.batch_size: 16000000000000 completions at once need at least 8 PB, and this",
        ),
        (
            {"training.group_size": 10**15, "training.batch_size": 1},
            "training.batch_size: 1000000000000000 completions at once need at least 500 PB, and",
        ),
        (
            {"eval.every": 1, "eval.samples": 10**12},
            "eval.samples: 1000000000000 completions at once need at least 500 TB, and this",
        ),
    ],
)
def test_what_can_never_work_is_refused_before_data_are_loaded(make_config, settings, problem):
    with pytest.raises(ConfigError) as caught:
        build(make_config({**settings, "data.path": "no/such/file.jsonl"}))
    [line] = caught.value.problems
    assert line.startswith(problem)


@pytest.mark.parametrize("key", ["algorithm_mode", "advantage_mode", "transform_mode"])
def test_a_rule_of_ones_own_may_decode_greedily(key):
    settings = {"training.temperature": 0.0, f"algorithm.{key}": "my_module:rule"}
    refuse_clashes(load_config(None, settings), CAN_ALL)


def test_a_rule_of_ones_own_has_no_groups_of_one_either():
    settings = {"training.group_size": 1, "algorithm.algorithm_mode": "my_module:rule"}
    with pytest.raises(ConfigError, match=r"training\.group_size: `1` can never teach"):
        refuse_clashes(load_config(None, settings), CAN_ALL)
