import numpy as np
import pytest

from retrain_core import EntropyStats, SepaSchedule, SepaState, entropy_stats


def variance_of(observation):
    """Of one list of execution uncertainties; an empty one shows nothing."""
    if not observation:
        return None
    return entropy_stats(observation, np.zeros(len(observation), dtype=bool)).exec_var


@pytest.mark.golden("sepa_controller", "sepa_trace")
def test_golden_trace(case, check):
    params = dict(case["params"])
    reload_at = params.pop("reload_at")
    schedule = SepaSchedule(**params)
    state = schedule.init()
    trace = {"lambda": [], "gate_open": [], "var_ema": [], "var_0": []}
    for index, step in enumerate(case["inputs"]["steps"]):
        if index == reload_at:
            state = SepaState(**state._asdict())
        trace["lambda"].append(schedule.sepa_lambda(state, step["step"]))
        state = schedule.observe_correct_rate(state, step["correct_rate"])
        for observation in step["exec_entropies"]:
            state = schedule.observe_variance(state, variance_of(observation))
        for key in ("gate_open", "var_ema", "var_0"):
            trace[key].append(getattr(state, key))
    check(case, trace | {"final_state": state._asdict(), "enabled": schedule.enabled})


def test_update_observes_the_rate_then_the_variance_once():
    schedule = SepaSchedule(schedule="auto", warmup=2, ema_decay=0.5)
    state = schedule.update(schedule.init(), 0.2, EntropyStats(exec_var=4.0, exec_count=3))
    assert state == SepaState(var_ema=4.0, var_0=None, warmup_seen=1, gate_open=True)
    state = schedule.update(state, None, EntropyStats(exec_var=2.0, exec_count=3))
    assert state == SepaState(var_ema=3.0, var_0=3.0, warmup_seen=2, gate_open=True)


@pytest.mark.parametrize("stats", [None, EntropyStats(), EntropyStats(0.0, float("nan"), 2)])
def test_a_step_without_execution_tokens_shows_nothing(stats):
    schedule = SepaSchedule(schedule="auto")
    assert schedule.update(schedule.init(), None, stats) == schedule.init()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"schedule": "liner"}, "did you mean `linear`"),
        ({"steps": -1}, "must be >= 0"),
        ({"ema_decay": 1.0}, "ema_decay in"),
        ({"var_threshold": 0.0}, "var_threshold > 0"),
        ({"warmup": 0}, "warmup must be at least 1"),
    ],
)
def test_bad_parameters(params, message):
    with pytest.raises(ValueError, match=message):
        SepaSchedule(**params)
