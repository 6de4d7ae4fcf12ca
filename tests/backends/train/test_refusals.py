from dataclasses import replace

import pytest

from retrain_backends.config import load_config
from retrain_backends.errors import ConfigError
from retrain_backends.train.build import build
from retrain_backends.train.refusals import refuse_clashes
from retrain_backends.types import Capabilities, SamplerCapabilities, TrainerCapabilities
from retrain_core import TransformSpec

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


OVERLAP = {
    "inference.overlap": "exact",
    "inference.engine": "vllm",
    "inference.url": "http://localhost:1",
}
PARTS = replace(CAN_ALL, trainer=replace(CAN_ALL.trainer, parts=True))


def normalised(value):
    return {"algorithm.params": {"batch_advantage_norm": value}}


def by_step(tokens):
    """A transform that may need the whole step."""
    return tokens.uncertainty


BY_GROUP = TransformSpec(by_step, by_group=True)


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"algorithm.advantage_mode": "reinforce_pp", **normalised(False)},
        {"algorithm.transform_mode": "entropy_mask", "reward.type": "custom"},
        {"algorithm.advantage_mode": f"{__name__}:by_step"},
        {"algorithm.transform_mode": f"{__name__}:BY_GROUP"},
    ],
)
def test_steps_that_overlap(rule):
    refuse_clashes(load_config(None, OVERLAP | rule), PARTS)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"inference.engine": "pytorch"}, "the engine `pytorch` samples in the process that tra"),
        ({"inference.url": []}, "the engine `vllm` samples in the process that trains, one after"),
        ({"inference.max_steps_off_policy": 1}, "with inference.max_steps_off_policy = 1 serv"),
        ({"lora.dropout": 0.1}, "lora.dropout = 0.1 drops other weights when groups are trained"),
        (
            {"algorithm.advantage_mode": "reinforce_pp"},
            "algorithm.advantage_mode: `reinforce_pp` with batch_advantage_norm normalises over",
        ),
        (
            normalised(True),
            "algorithm.advantage_mode: `maxrl` with batch_advantage_norm normalises over",
        ),
        (
            {"algorithm.transform_mode": f"{__name__}:by_step"},
            f"algorithm.transform_mode: `{__name__}:by_step` gets the whole step (unless its Tr",
        ),
        (
            {"algorithm.algorithm_mode": f"{__name__}:by_step"},
            f"algorithm.algorithm_mode: `{__name__}:by_step` gets the whole step; leave it",
        ),
        ({"reward.type": f"{__name__}:by_step"}, f"reward.type: `{__name__}:by_step` judges a st"),
    ],
)
def test_steps_that_cannot_overlap(settings, reason):
    with pytest.raises(ConfigError) as caught:
        refuse_clashes(load_config(None, OVERLAP | settings), PARTS)
    [line] = caught.value.problems
    assert line.startswith(f"inference.overlap: `exact`, but {reason}")
    assert "\n" not in line


@pytest.mark.parametrize("backend", ["tinker", "fake"])
def test_a_backend_that_trains_a_step_as_a_whole_cannot_overlap(backend):
    settings = {"inference.overlap": "exact", "backend.backend": backend}
    with pytest.raises(ConfigError) as caught:
        refuse_clashes(load_config(None, settings), CAN_ALL)
    [line] = caught.value.problems
    assert line == (
        f"inference.overlap: `exact`, but the backend `{backend}` trains a step as a whole; leave"
        ' it at "off"'
    )
