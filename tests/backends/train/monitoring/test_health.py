import numpy as np
import pytest

from retrain_backends.config import HealthConfig
from retrain_backends.errors import RunError
from retrain_backends.fake import FakeBackend
from retrain_backends.tracking.journal import read_metrics
from retrain_backends.train import train
from retrain_backends.train.monitoring.health import CHECKS, HealthMonitor, sample_figures
from retrain_backends.train.step.samples import Samples
from retrain_backends.types import Completion, StepResult, Verdict

GOOD = {
    "loss": 0.1,
    "num_tokens": 4,
    "grad_norm": 1.0,
    "mean_abs_logprob_diff": 0.001,
    "kl_k3": 0.0001,
    "ratio_p99": 1.01,
    "ratio_max": 1.1,
    "clip_fraction": 0.0,
    "times_s": {},
}


class FirstSymbol:
    """1 for a completion that begins with the reference."""

    def score(self, items):
        return [Verdict(float(item.completion[:1] == item.example.reference)) for item in items]


class SometimesNan(FakeBackend):
    """Every second step meets advantages that are not numbers."""

    def train(self, batch):
        if batch.step % 2:
            batch.advantages_t[:] = np.nan
        return super().train(batch)


class Distant(FakeBackend):
    """Says of every token that it was less likely than it was."""

    def sample(self, requests, params):
        for index, group in super().sample(requests, params):
            for row in group:
                row.logprobs_T[:] -= 0.4
            yield index, group


class Diverged(FakeBackend):
    """Knows no probabilities any more."""

    def sample(self, requests, params):
        groups = dict(super().sample(requests, params))
        groups[1][2].logprobs_T[1] = np.nan
        yield from groups.items()


class Stuck(FakeBackend):
    """Has learned nothing from any step: samples as on the first day."""

    def sample(self, requests, params):
        trained, self._logits = self._logits, self._first
        try:
            return super().sample(requests, params)
        finally:
            self._logits = trained

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self._first = self._logits.copy()


def plugin(name: type) -> str:
    return f"{__name__}:{name.__name__}"


def samples(*rows: Completion) -> Samples:
    total = sum(len(row.tokens_T) for row in rows)
    return Samples([], rows, [""] * len(rows), np.array([len(rows)]), np.zeros(total, np.bool_))


def row(tokens, logprob=-1.0, stop="stop", **fields) -> Completion:
    ids = np.asarray(tokens, dtype=np.int64)
    return Completion(ids, np.full(len(ids), logprob), stop, **fields)


def watch(tmp_path, **thresholds) -> HealthMonitor:
    return HealthMonitor(HealthConfig(**thresholds), "fake", tmp_path)


def result(**changes) -> StepResult:
    return StepResult(**{**GOOD, **changes})


FINE = samples(row(range(40)), row(range(7)))


def test_figures_of_completions():
    found = sample_figures(
        samples(
            row([7] * 40, logprob=-2.0, stop="length"),
            row(range(40)),
            row([7] * 20),  # too short to be called repetition
            row(range(20)),
        )
    )
    assert found["token_entropy"] == pytest.approx((2 * 40 + 80) / 120)
    assert found["truncated_rate"] == found["repeated_rate"] == 0.25


def test_entropy_of_the_engine_counts_before_surprisal():
    measured = row([1, 2], logprob=-3.0, entropy_T=np.array([0.5, 0.7]))
    assert sample_figures(samples(measured))["token_entropy"] == pytest.approx(0.6)


def test_tokens_of_an_environment_do_not_count():
    tokens = [*range(32), *[7] * 60]
    sampled = np.arange(len(tokens)) < 32
    mixed = row(tokens, trainable_T=sampled)
    mixed.logprobs_T[~sampled] = -50.0
    found = sample_figures(samples(mixed))
    assert (found["token_entropy"], found["repeated_rate"]) == (1.0, 0.0)


def test_nothing_sampled_is_not_measured(tmp_path):
    assert set(sample_figures(samples()).values()) == {None}
    assert sample_figures(samples(row([])))["token_entropy"] is None
    health = watch(tmp_path, stop_entropy=1.0).examine(0, samples(row([])), None, 0)
    assert (health.warnings, health.stop) == ((), None)


def test_a_healthy_step_reports_nothing(tmp_path):
    health = watch(tmp_path).examine(0, FINE, result(), 0)
    assert (health.warnings, health.lines, health.stop) == ((), (), None)
    assert health.row() == {
        "engine": "fake",
        "token_entropy": 1.0,
        "truncated_rate": 0.0,
        "repeated_rate": 0.0,
        "health_warnings": [],
    }


BAD = {
    "logprob_diff": (FINE, result(mean_abs_logprob_diff=0.3), 0.3, "0.3 nats"),
    "ratio_p99": (FINE, result(ratio_p99=4.0), 4.0, "of 4"),
    "kl_k3": (FINE, result(kl_k3=0.2), 0.2, "0.2 nats"),
    "entropy": (samples(row(range(9), logprob=-0.01)), result(), 0.01, "0.01 nats"),
    "truncated": (samples(row([1], stop="length"), row([2])), result(), 0.5, "50%"),
    "repeated": (samples(row([1] * 50), row([2])), result(), 0.5, "50%"),
}


@pytest.mark.parametrize("name", BAD)
def test_reaching_a_threshold_warns_and_stops(tmp_path, name):
    sampled, reported, threshold, figure = BAD[name]
    warned = watch(tmp_path, **{f"warn_{name}": threshold}).examine(3, sampled, reported, 0)
    assert warned.warnings == (name,)
    [line] = warned.lines
    assert line.startswith("step 3: warning: ")
    assert figure in line
    assert f"health.warn_{name} = {threshold:g}" in line
    assert warned.stop is None
    stopped = watch(tmp_path, **{f"stop_{name}": threshold}).examine(3, sampled, reported, 0)
    assert stopped.warnings == (name,)
    assert stopped.lines == ()
    assert stopped.stop is not None
    assert figure in stopped.stop
    assert f"health.stop_{name} = {threshold:g}" in stopped.stop
    assert "\n" not in stopped.stop


@pytest.mark.parametrize("name", BAD)
def test_zero_switches_a_check_off(tmp_path, name):
    sampled, reported, *_ = BAD[name]
    off = {f"{kind}_{name}": 0.0 for kind in ("warn", "stop")}
    assert watch(tmp_path, **off).examine(0, sampled, reported, 0).warnings == ()


def test_every_check_has_its_two_keys():
    keys = {f"{kind}_{check.name}" for check in CHECKS for kind in ("warn", "stop")}
    assert keys | {"probe", "max_nonfinite_steps"} == set(HealthConfig.model_fields)


def test_a_warning_is_reported_when_it_starts_and_when_it_ends(tmp_path):
    bad, _, _, _ = BAD["truncated"]
    watched = watch(tmp_path)
    steps = [watched.examine(n, s, None, 0) for n, s in enumerate([FINE, bad, bad, FINE, FINE])]
    assert [len(health.lines) for health in steps] == [0, 1, 0, 1, 0]
    assert steps[3].lines[0].startswith("step 3: back to normal: 0% of the completions")
    assert [health.warnings for health in steps] == [(), ("truncated",), ("truncated",), (), ()]


def test_an_unmeasured_figure_neither_starts_nor_ends_a_warning(tmp_path):
    watched = watch(tmp_path)
    far, unknown = result(mean_abs_logprob_diff=0.2), None
    steps = [watched.examine(n, FINE, r, 0) for n, r in enumerate([far, unknown, far, result()])]
    assert [len(health.lines) for health in steps] == [1, 0, 0, 1]
    assert steps[1].warnings == ()


def test_a_step_that_is_not_finite_is_an_event_until_there_are_too_many(tmp_path):
    nan = result(loss=float("nan"), mean_abs_logprob_diff=float("nan"))
    watched = watch(tmp_path, max_nonfinite_steps=2)
    first, second = (watched.examine(step, FINE, nan, step + 1) for step in range(2))
    assert first.warnings == second.warnings == ("nonfinite",)
    assert first.stop is None
    assert "the loss is nan" in first.lines[0]
    assert second.lines == ()
    assert second.stop is not None
    assert "health.max_nonfinite_steps = 2" in second.stop


def test_steps_that_are_not_finite_train_nothing_and_are_kept(make_config, tmp_path):
    config = make_config(
        {
            "backend.backend": plugin(SometimesNan),
            "reward.type": plugin(FirstSymbol),
            "health.max_nonfinite_steps": 2,
            "training.max_steps": 9,
        }
    )
    with pytest.raises(RunError, match=r"step 3: the loss is nan.*2 such steps end the run"):
        train(config)
    rows = read_metrics(tmp_path / "run")
    assert [row["loss"] is None for row in rows] == [False, True, False, True]
    assert ["nonfinite" in row["health_warnings"] for row in rows] == [False, True, False, True]
    dumps = sorted(path.name for path in (tmp_path / "run/nonfinite").iterdir())
    assert dumps == ["step_000001.npz", "step_000003.npz"]


def test_a_stop_ends_the_run_with_its_row_and_the_last_checkpoint(make_config, tmp_path):
    config = make_config(
        {
            "backend.backend": plugin(Distant),
            "reward.type": plugin(FirstSymbol),
            "training.save_every": 1,
            "health.probe": "off",
            "health.stop_logprob_diff": 0.3,
        }
    )
    expected = r"step 0: log-probs of sampler and trainer differ by 0\.4 nats a token \(health\.s"
    with pytest.raises(RunError, match=expected) as caught:
        train(config)
    assert caught.value.exit_code == 1
    [row] = read_metrics(tmp_path / "run")
    assert {"logprob_diff"} <= set(row["health_warnings"])
    assert not (tmp_path / "run/final").exists()


def test_a_sampler_that_never_follows_is_reported(make_config, tmp_path, capsys):
    settings = {"backend.backend": plugin(Stuck), "reward.type": plugin(FirstSymbol)}
    train(make_config({**settings, "health.stop_logprob_diff": 0.0}))
    assert "step 0: inactive_adapter: training has changed the adapter" in capsys.readouterr().out
    stopping = {"health.probe": "stop", "logging.log_dir": str(tmp_path / "again")}
    with pytest.raises(RunError, match="step 0: inactive_adapter"):
        train(make_config({**settings, **stopping}))


@pytest.mark.parametrize("probe", ["warn", "stop"])
def test_a_defect_at_the_start_is_reported(make_config, capsys, probe):
    config = make_config(
        {"backend.backend": plugin(Distant), "health.probe": probe, "training.max_steps": 1}
    )
    if probe == "stop":
        with pytest.raises(RunError, match="start-up probe: other_policy"):
            train(config)
    else:
        train(config)
        assert "start-up probe: other_policy: the engine's" in capsys.readouterr().out


def test_log_probs_that_are_not_finite_end_the_run_with_a_line(make_config):
    config = make_config({"backend.backend": plugin(Diverged), "health.probe": "off"})
    expected = "completion 10, token 1: the log-prob nan is not finite; .* lower training.lr"
    with pytest.raises(RunError, match=expected):
        train(config)
