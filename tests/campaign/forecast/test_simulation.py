import numpy as np
import pytest

from retrain_backends.errors import ConfigError
from retrain_campaign.forecast.pilot import Pilot, PilotRun, measure_pilot
from retrain_campaign.forecast.simulation import RunSize, forecast


def pilot_run(label: str = "", step_s=(2.0,) * 20, evaluation_s=(), overhead_s=None) -> PilotRun:
    steps = np.array(step_s)
    return PilotRun(label, steps, 100 * steps, np.array(evaluation_s), overhead_s, 1000)


def sizes(count: int, steps: int = 10, evaluations: int = 0, label: str = "") -> list[RunSize]:
    return [RunSize(label, steps, evaluations)] * count


def forecast_of(runs, *arguments, own_s=(), **named):
    return forecast(Pilot(tuple(runs), tuple(own_s)), *arguments, **named)


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
    found = forecast_of([pilot_run()], sizes(6), workers, stagger_s)
    assert found.wall_s.median == pytest.approx(wall_s, rel=0.1)
    assert found.wall_s.low < 0.97 * wall_s
    assert wall_s * 1.03 < found.wall_s.high < 1.4 * wall_s
    assert found.tokens.median == pytest.approx(6 * 10 * 200, rel=0.02)
    assert (found.step_s, found.steps_measured, found.runs_measured) == (2.0, 20, 1)


def test_evaluations_starts_and_the_campaigns_own_time_count_with_their_spread():
    pilot = [pilot_run(evaluation_s=(3.0, 5.0), overhead_s=7.0), pilot_run(overhead_s=9.0)]
    found = forecast_of(pilot, sizes(1, evaluations=2), 1, own_s=[30.0])
    assert found.wall_s.median == pytest.approx(20 + 2 * 4 + 8 + 30, rel=0.03)
    assert (found.overhead_s, found.own_s, found.evaluations_known) == (8.0, 30.0, True)
    alike, unlike = ([pilot_run(overhead_s=s) for s in starts] for starts in ((9, 9), (5, 13)))
    assert width(forecast_of(unlike, sizes(1), 1)) > 1.5 * width(forecast_of(alike, sizes(1), 1))
    unknown = forecast_of([pilot_run()], sizes(1, evaluations=2), 1)
    assert (unknown.evaluations_known, unknown.overhead_s, unknown.own_s) == (False, None, None)


def width(found) -> float:
    return found.wall_s.high - found.wall_s.low


def test_the_first_step_counts_as_part_of_the_start():
    warming = pilot_run(step_s=(12.0, *[2.0] * 9), overhead_s=5.0)
    found = forecast_of([warming], sizes(1, steps=100), 1)
    assert found.overhead_s == 15.0
    assert found.wall_s.median == pytest.approx(15 + 200, rel=0.03)


def test_more_measured_runs_narrow_the_interval():
    few, many = ([pilot_run(overhead_s=5.0)] * count for count in (1, 20))
    assert width(forecast_of(few, sizes(4), 1)) > 1.3 * width(forecast_of(many, sizes(4), 1))


def test_a_condition_is_judged_by_runs_of_its_own():
    pilot = [pilot_run("slow", (4.0,) * 9), pilot_run("fast", (1.0,) * 9)]
    slow, fast = (forecast_of(pilot, sizes(2, label=label), 1) for label in ("slow", "fast"))
    assert slow.wall_s.median == pytest.approx(80, rel=0.03)
    assert fast.wall_s.median == pytest.approx(20, rel=0.03)
    other = forecast_of(pilot, sizes(1, label="other"), 1).wall_s
    assert other.low < 10
    assert other.high > 40


@pytest.mark.parametrize(("seeds", "spread"), [(1, 0.02), (1, 0.05), (3, 0.05), (3, 0.08)])
def test_nine_of_ten_campaigns_are_within_the_interval(seeds, spread):
    """Runs differ, steps differ, and the machine is never quite as fast as before.

    After a single run of each condition the spread is that of the prior, 5 %.
    """
    rng = np.random.default_rng(5)
    hits, trials = 0, 150

    def vary(value, share=spread):
        return value * np.exp(share * rng.standard_normal())

    def steps(count):
        return rng.gamma(16.0, vary(2.0) / 16.0, count)

    for trial in range(trials):
        runs = [pilot_run(label, steps(15), [vary(4.0)], vary(8.0)) for label in "ab" * seeds]
        planned = sizes(3, 30, 2, "a") + sizes(3, 30, 2, "b")
        found = forecast_of(runs, planned, 2, seed=trial, own_s=[vary(5.0)]).wall_s
        ends = np.zeros(2)
        for size in planned:
            total = steps(size.steps).sum() + 2 * vary(4.0) + vary(8.0)
            ends[ends.argmin()] += total
        wall_s = vary(ends.max() + vary(5.0), 0.03)
        hits += found.low <= wall_s <= found.high
    assert 0.84 <= hits / trials <= (0.97 if spread >= 0.05 else 1.0)


def test_the_same_seed_the_same_forecast():
    pilot = [pilot_run(step_s=(1.0, 2.0, 4.0))]
    first = forecast_of(pilot, sizes(3), 2)
    assert forecast_of(pilot, sizes(3), 2) == first
    assert forecast_of(pilot, sizes(3), 2, seed=1).wall_s != first.wall_s


def test_a_pilot_is_measured(tmp_path, leave_campaign, leave_run):
    times = {"started": "2026-01-01T00:00:00+00:00", "ended": "2026-01-01T00:00:30+00:00"}
    runs = {
        ("a", 1): ("done", [0.5] * 10, [(0, 0.1), (10, 0.4)]),
        ("b", 1): ("planned", []),
    }
    leave_campaign(tmp_path / "campaign", runs, attempts=1, **times)
    leave_run(tmp_path / "alone", [0.5] * 3)
    leave_run(tmp_path / "empty", [])
    pilot = measure_pilot(tmp_path)
    assert pilot.own_s == ()
    alone, first = pilot.runs
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
