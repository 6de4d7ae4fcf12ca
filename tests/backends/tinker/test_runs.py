"""Whole runs on a service in this process."""

import json

import numpy as np
import pytest

from retrain_backends.config import Origin
from retrain_backends.errors import InterruptedRunError, RunError, StoppedRunError
from retrain_backends.tokenizer import resolve_model
from retrain_backends.tracking.journal import read_evaluations, read_metrics
from retrain_backends.train.loop import train
from retrain_backends.types import Verdict
from retrain_test_support.tinker.failures import Failures, RequestKind
from retrain_test_support.tinker.server import TinkerServer

MODEL = "builtin:tiny-arithmetic"
SENT_AGAIN = frozenset(
    {RequestKind.TRAIN, RequestKind.STEP, RequestKind.SAMPLE, RequestKind.RETRIEVE}
)


class EndsAtOnce:
    """A completion is right when it is short: a rule that a bigram model can learn."""

    def score(self, items):
        return [Verdict(float(len(item.completion) <= 4)) for item in items]

    @classmethod
    def from_config(cls, _config):
        return cls()


class OddDigits(EndsAtOnce):
    """About half of the completions are right."""

    def score(self, items):
        return [Verdict(float(sum(map(str.isdigit, item.completion)) % 2)) for item in items]


class Breaks(OddDigits):
    """Every connection to the server breaks from the fourth step on."""

    failures: Failures  # of the server
    calls = 0

    def score(self, items):
        self.calls += 1
        if self.calls == 4:
            self.failures.drop_share = 1.0
        return super().score(items)


class CtrlC(OddDigits):
    """Ctrl-C in the fourth step."""

    calls = 0

    def score(self, items):
        self.calls += 1
        if self.calls == 4:
            raise KeyboardInterrupt
        return super().score(items)


@pytest.fixture
def server():
    with TinkerServer(resolve_model(MODEL)) as running:
        yield running


@pytest.fixture
def run_config(configure, tmp_path):
    """`run_config(overrides)`: a short run in a directory of its own."""

    def make(overrides=None):
        settings = {
            "model.model": MODEL,
            "data.source": "arithmetic",
            "data.prompt_template": "{question}",
            "reward.type": f"{__name__}:EndsAtOnce",
            "training.max_steps": 6,
            "training.batch_size": 3,
            "training.group_size": 8,
            "training.max_tokens": 12,
            "training.temperature": 1.0,
            "training.save_every": 2,
            "logging.log_dir": str(tmp_path / "run"),
        }
        return configure({**settings, **(overrides or {})})

    return make


def steps_of(run) -> list[int]:
    return [row["step"] for row in read_metrics(run)]


def trained(server) -> int:
    return len(server.executed("optim_step"))


def test_a_run_learns(server, run_config):
    summary = train(run_config({"training.max_steps": 15, "training.lr": 0.2}))
    rows = read_metrics(summary.run_dir)
    assert max(row["mean_abs_logprob_diff"] or 0.0 for row in rows) < 1e-4
    assert rows[-1]["mean_reward"] > rows[0]["mean_reward"] + 0.3
    assert trained(server) == sum(row["loss"] is not None for row in rows)
    assert summary.adapter.startswith("tinker://")
    for name in ("queue_s", "sample_s", "train_s", "save_s", "train_publish_s"):
        assert next(row for row in rows if row["loss"] is not None)[name] >= 0.0
    for row in rows:
        assert row["rollout_wait_s"] == row["sample_s"]
        assert row["engine_wait_s"] >= row["step_time_s"] - row["sample_s"] - 1e-6


@pytest.mark.slow
def test_with_a_third_of_the_calls_failing_every_step_is_trained_once(server, run_config):
    failures = server.failures
    failures.error_share, failures.drop_share, failures.lost_answer_share = 0.15, 0.08, 0.07
    failures.retry_after_s = 0.01
    failures.kinds = SENT_AGAIN
    odd = {"reward.type": f"{__name__}:OddDigits"}
    summary = train(run_config({"training.max_steps": 3, **odd}))
    assert steps_of(summary.run_dir) == list(range(3))
    assert trained(server) == sum(row["loss"] is not None for row in read_metrics(summary.run_dir))
    assert trained(server) == 3
    assert sum(failures.counts.values()) > 10


def test_prompts_of_probe_and_evaluation_may_fail(server, run_config):
    server.failures.failed_samples = 5  # all 4 of the probe, and one of the first 2 questions
    sizes = {"training.max_steps": 1, "training.batch_size": 1, "training.group_size": 2}
    summary = train(run_config({**sizes, "eval.every": 1, "eval.max_examples": 10}))
    metadata = json.loads((summary.run_dir / "metadata.json").read_text())
    assert metadata["probe"]["logprobs"] == "undecided"
    assert metadata["probe"]["defects"] == []
    assert [row["failed_questions"] for row in read_evaluations(summary.run_dir)] == [1, 0]


def test_a_run_that_broke_goes_on(server, run_config, tmp_path):
    config = run_config({"training.max_steps": 3})
    train(config)
    server.forget_sessions()
    summary = train(run_config({"resume.from": str(tmp_path / "run")}))
    assert steps_of(summary.run_dir) == list(range(6))
    metadata = json.loads((summary.run_dir / "metadata.json").read_text())
    assert metadata["resumed"][0]["resume_fidelity"] == "exact"


@pytest.mark.parametrize("short_paths", [False, True])
def test_squeeze_reads_the_adapter_that_a_run_prints(server, run_config, tmp_path, short_paths):
    server.behaviour.short_paths = short_paths
    analysis = pytest.importorskip("retrain_campaign.control.adapter_analysis")
    after_training = pytest.importorskip("retrain_campaign.squeeze").settings_after_training
    config = run_config({"training.max_steps": 3, "squeeze.target_ranks": [1, 2, 4]})
    adapter = train(config).adapter
    assert adapter.count("/") == (3 if short_paths else 4)
    entry, text = analysis.analysis_for(
        after_training(config, Origin("c.toml"), resumed=False), tmp_path
    )(adapter)
    assert (entry["adapter"], entry["source_rank"]) == (adapter, 4)
    assert "recommended: rank" in text
    weights = server.adapter(server.executed("optim_step")[-1].model_id)
    update = weights.scale * weights.a_VR @ weights.b_RV
    energy = np.linalg.svd(update, compute_uv=False)[:4] ** 2
    assert f"{100 * energy[0] / energy.sum():.1f}" in text, text


def test_a_spent_budget_stays_spent(server, run_config, tmp_path):
    prices = {"prompt": 1e3, "sampled": 1e3, "trained": 1e3}
    spent = {"prices": prices, "max_cost": 0.01}
    with pytest.raises(StoppedRunError, match=r"after 1 steps"):
        train(run_config({"backend.options": spent}))
    again = {"resume.from": str(tmp_path / "run"), "eval.every": 1, "eval.max_examples": 8}
    before = len(server.executed("sample")), trained(server)
    with pytest.raises(StoppedRunError, match=r"after 1 steps.*max_cost = 0\.01 \(raise it to con"):
        train(run_config({**again, "backend.options": spent}))
    # The optimiser is tested with a step of its own, before the budget is known.
    assert (len(server.executed("sample")), trained(server)) == (before[0], before[1] + 1)
    more = {"prices": prices, "max_cost": 1e6}
    train(run_config({**again, "training.max_steps": 2, "backend.options": more}))
    assert steps_of(tmp_path / "run") == [0, 1]


def test_a_gradient_that_is_lost_is_done_again_from_the_checkpoint(server, run_config, tmp_path):
    server.failures.failed_forward_backwards = 1
    with pytest.raises(RunError, match=r"training step \d.*made to fail"):
        train(run_config())
    summary = train(run_config({"resume.from": str(tmp_path / "run")}))
    assert steps_of(summary.run_dir) == list(range(6))


@pytest.mark.slow
def test_a_server_that_is_gone_ends_the_run_at_the_limit(server, run_config, tmp_path):
    Breaks.failures = server.failures
    limited = {"reward.type": f"{__name__}:Breaks", "backend.options": {"timeout_s": 5.0}}
    with pytest.raises(RunError, match=r"training step 3: no answer in time .*`retrain --resume`"):
        train(run_config(limited))
    server.failures.drop_share = 0.0
    Breaks.failures = Failures()
    summary = train(run_config({**limited, "resume.from": str(tmp_path / "run")}))
    assert steps_of(summary.run_dir) == list(range(6))


def test_a_lost_answer_is_never_a_step_too_many(server, run_config, tmp_path):
    server.behaviour.forgets_requests = True
    failures = server.failures
    failures.kinds, failures.storm_status = frozenset({RequestKind.STEP}), -1
    failures.storm_after, failures.storm = 3, 1
    odd = {"reward.type": f"{__name__}:OddDigits"}
    with pytest.raises(RunError, match=r"step 3: .* executed the step twice"):
        train(run_config(odd))
    assert (trained(server), steps_of(tmp_path / "run")) == (5, [0, 1, 2])
    summary = train(run_config({**odd, "resume.from": str(tmp_path / "run")}))
    assert steps_of(summary.run_dir) == list(range(6))
    resumed = server.executed("optim_step")[-1].model_id
    assert len(server.executed("optim_step", resumed)) == 4


def broken_once(server, run_config, kind, after):
    """A run of one step in which one request is answered with a damaged body; whether it came."""
    failures = server.failures
    failures.kinds, failures.storm_status = frozenset({kind}), 200
    failures.storm_after, failures.storm = after, 1
    sizes = {"training.max_steps": 1, "training.batch_size": 1, "training.group_size": 4}
    log_dir = {"logging.log_dir": f"{run_config().logging.log_dir}_{kind.value}_{after}"}
    odd = {"reward.type": f"{__name__}:OddDigits", "health.probe": "off"}
    before = trained(server)
    summary = train(run_config({**sizes, **log_dir, **odd}))
    assert steps_of(summary.run_dir) == [0]
    assert trained(server) <= before + 1
    return not failures.storm


BROKEN = {
    RequestKind.SESSION: 0,
    RequestKind.CREATE: 0,
    RequestKind.TRAIN: 0,
    RequestKind.SAMPLE: 0,
}


@pytest.mark.parametrize(("kind", "after"), [*BROKEN.items(), (RequestKind.RETRIEVE, 2)])
def test_one_answer_that_cannot_be_read_does_not_end_a_run(server, run_config, kind, after):
    assert broken_once(server, run_config, kind, after)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*BROKEN, RequestKind.STEP, RequestKind.RETRIEVE])
def test_no_answer_that_cannot_be_read_ends_a_run(server, run_config, kind):
    after = 0
    while broken_once(server, run_config, kind, after):
        after += 1
    assert after > 0


@pytest.mark.parametrize("off_policy", [0, 1])
def test_ctrl_c_leaves_what_can_be_gone_on_with(run_config, tmp_path, off_policy):
    settings = {
        "reward.type": f"{__name__}:CtrlC",
        "backend.options": {"max_steps_off_policy": off_policy},
    }
    with pytest.raises(InterruptedRunError, match=r"after 3 steps; adapter saved in tinker://"):
        train(run_config(settings))
    summary = train(run_config({**settings, "resume.from": str(tmp_path / "run")}))
    assert steps_of(summary.run_dir) == list(range(6))
    lags = [row["steps_off_policy"] for row in read_metrics(summary.run_dir)]
    assert lags == [0, *[off_policy] * 2, 0, *[off_policy] * 2]
