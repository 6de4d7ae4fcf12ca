import pytest

from retrain_backends.config import load_config
from retrain_backends.train.control import Control, TrainState
from retrain_core import RunningCount, SepaState

LATE = TrainState(10_000, 0, RunningCount(), SepaState(gate_open=True))


@pytest.mark.parametrize(
    ("overrides", "strength"),
    [
        ({"algorithm.transform_mode": "gtpo_sepa"}, 1.0),
        ({"algorithm.transform_mode": "gtpo_hicra"}, 0.0),
        ({"algorithm.transform_mode": "mine.transform"}, 1.0),
        ({"algorithm.transform_mode": "none", "algorithm.algorithm_mode": "mine.rule"}, 1.0),
        ({"sepa.steps": 0}, 0.0),
    ],
)
def test_sepa_is_on_where_something_may_read_it(overrides, strength):
    assert Control.from_config(load_config(None, overrides)).reading(LATE).strength == strength
