import pytest

from retrain_backends.config import RunConfig, load_config
from retrain_backends.train.step.sepa import idle_sepa, read_sepa, sepa_schedule
from retrain_backends.train.storage.train_state import TrainState
from retrain_core import RunningCount, SepaState, TransformSpec


def plain(tokens):
    return tokens.uncertainty


def make_unpooled():
    return TransformSpec(plain, uses_sepa=False)


def make_pooled():
    return TransformSpec(plain, uses_sepa=True)


LATE = TrainState(10_000, 0, RunningCount(), SepaState(gate_open=True))


@pytest.mark.parametrize(
    ("overrides", "strength"),
    [
        ({"algorithm.transform_mode": "gtpo_sepa"}, 1.0),
        ({"algorithm.transform_mode": "gtpo_hicra"}, 0.0),
        ({"algorithm.transform_mode": f"{__name__}.plain"}, 1.0),
        ({"algorithm.transform_mode": f"{__name__}.make_pooled"}, 1.0),
        ({"algorithm.transform_mode": f"{__name__}.make_unpooled"}, 0.0),
        ({"algorithm.transform_mode": "none", "algorithm.algorithm_mode": "mine.rule"}, 1.0),
        ({"sepa.steps": 0}, 0.0),
    ],
)
def test_sepa_is_on_where_something_may_read_it(overrides, strength):
    config = load_config(None, overrides)
    schedule = sepa_schedule(config.algorithm, config.sepa)
    assert read_sepa(schedule, LATE).strength == strength


@pytest.mark.parametrize(
    ("mode", "sepa", "idle"),
    [
        ("gtpo_sepa", {}, True),
        ("gtpo_sepa_amp", {"steps": 0, "delay_steps": 0}, True),
        ("gtpo_sepa", {"delay_steps": 19}, True),
        ("gtpo_sepa", {"delay_steps": 18}, False),
        ("gtpo_sepa", {"schedule": "auto"}, False),
        ("gtpo", {}, False),
        (f"{__name__}.plain", {}, False),
        (f"{__name__}.make_pooled", {}, True),
        (f"{__name__}.make_unpooled", {}, False),
    ],
)
def test_sepa_that_never_acts_is_reported(mode, sepa, idle):
    tables = {"algorithm": {"transform_mode": mode}, "sepa": sepa, "training": {"max_steps": 20}}
    config = RunConfig.model_validate(tables)
    found = idle_sepa(config.algorithm, config.sepa, config.training.max_steps)
    assert found.startswith("SEPA has no effect: with sepa.steps =") == idle
    assert bool(found) == idle
