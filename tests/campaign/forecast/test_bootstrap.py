import numpy as np
import pytest

from retrain_backends.errors import ConfigError
from retrain_campaign.forecast.bootstrap import RunSize, forecast
from retrain_campaign.forecast.pilot import PilotRun, measure_pilot


def pilot_run(label: str = "", step_s=(2.0,) * 20, evaluation_s=(), overhead_s=None) -> PilotRun:
    steps = np.array(step_s)
    return PilotRun(label, steps, 100 * steps, np.array(evaluation_s), overhead_s, 1000)


def sizes(count: int, steps: int = 10, evaluations: int = 0, label: str = "") -> list[RunSize]:
    return [RunSize(label, steps, evaluations)] * count


@pytest.mark.parametrize(
    ("workers", "stagger_s", "wall_s"),
    [
        (1, 0.0, 120.0),
        (2, 0.0, 60.0),
        (4, 0.0, 40.0),
        (6, 0.0, 20.0),
        (6, 3.0, 35.0),
        (9, 0.0, 20.0),
    ],
)
def test_steps_that_all_last_alike(workers, stagger_s, wall_s):
    found = forecast([pilot_run()], sizes(6), workers, stagger_s)
    assert found.wall_s.low == found.wall_s.high == pytest.approx(wall_s)
    assert found.tokens.median == pytest.approx(6 * 10 * 200)
    assert (found.step_s, found.steps_measured, found.runs_measured) == (2.0, 20, 1)


def test_evaluations_and_overhead_count():
    pilot = [pilot_run(evaluation_s=(3.0, 5.0), overhead_s=7.0), pilot_run(overhead_s=9.0)]
    found = forecast(pilot, sizes(1, evaluations=2), 1)
    assert found.wall_s.median == pytest.approx(20 + 2 * 4 + 8)
    assert found.evaluations_known
    unknown = forecast([pilot_run()], sizes(1, evaluations=2), 1)
    assert (unknown.evaluations_known, unknown.overhead_s) == (False, None)


def test_a_condition_is_judged_by_runs_of_its_own():
    pilot = [pilot_run("slow", (4.0,) * 9), pilot_run("fast", (1.0,) * 9)]
    assert forecast(pilot, sizes(2, label="slow"), 1).wall_s.median == pytest.approx(80)
    assert forecast(pilot, sizes(2, label="fast"), 1).wall_s.median == pytest.approx(20)
    other = forecast(pilot, sizes(1, label="other"), 1).wall_s
    assert (other.low, other.high) == (pytest.approx(10), pytest.approx(40))


def test_nine_of_ten_campaigns_are_within_the_interval():
    """With pilots and campaigns of one distribution, the interval has its nominal coverage."""
    rng = np.random.default_rng(5)
    hits = 0
    for trial in range(200):
        pilot = [pilot_run(step_s=rng.gamma(4.0, 0.5, 30)) for _ in range(3)]
        found = forecast(pilot, sizes(4, steps=50), 2, seed=trial).wall_s
        ends = np.zeros(2)
        for _ in range(4):
            ends[ends.argmin()] += rng.gamma(4.0, 0.5, 50).sum()
        hits += found.low <= ends.max() <= found.high
    assert 0.83 <= hits / 200 <= 0.97


def test_the_same_seed_the_same_forecast():
    pilot = [pilot_run(step_s=(1.0, 2.0, 4.0))]
    assert forecast(pilot, sizes(3), 2) == forecast(pilot, sizes(3), 2)
    assert forecast(pilot, sizes(3), 2).wall_s != forecast(pilot, sizes(3), 2, seed=1).wall_s


def test_a_pilot_is_measured(tmp_path, leave_campaign, leave_run):
    times = {"started": "2026-01-01T00:00:00+00:00", "ended": "2026-01-01T00:00:30+00:00"}
    runs = {
        ("a", 1): ("done", [0.5] * 10, [(0, 0.1), (10, 0.4)]),
        ("b", 1): ("planned", []),
    }
    leave_campaign(tmp_path / "campaign", runs, attempts=1, **times)
    leave_run(tmp_path / "alone", [0.5] * 3)
    leave_run(tmp_path / "empty", [])
    alone, first = measure_pilot(tmp_path)
    assert (alone.label, alone.overhead_s, alone.evaluation_s.size) == ("", None, 0)
    np.testing.assert_allclose(alone.step_s, [1.0, 1.1, 1.2])
    assert alone.tokens.tolist() == [100, 101, 102]
    assert (first.label, first.evaluation_s.tolist()) == ("a", [0.5, 0.5])
    assert first.overhead_s == pytest.approx(30 - first.step_s.sum() - 1.0)
    logs = [tmp_path / "campaign/runs/a_s1" / name for name in ("metrics.jsonl", "eval.jsonl")]
    assert first.log_bytes == sum(path.stat().st_size for path in logs)


def test_no_pilot(tmp_path, leave_run):
    leave_run(tmp_path / "empty", [])
    with pytest.raises(ConfigError, match="no run with a finished step"):
        measure_pilot(tmp_path)
