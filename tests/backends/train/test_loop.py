import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from retrain_backends.errors import InterruptedRunError, RunError, StoppedRunError
from retrain_backends.fake import FakeBackend
from retrain_backends.randomness import Purpose
from retrain_backends.tracking.journal import read_evaluations, read_metrics
from retrain_backends.train import train
from retrain_backends.train.checks.training_evidence import missing_evidence
from retrain_backends.types import Restored, Usage, Verdict

ISSUE_KEYS = {
    "step", "condition", "loss", "mean_reward", "correct_rate", "running_correct_rate",
    "sepa_lambda", "sepa_gate_open", "num_datums", "max_token_hit_rate", "step_time_s",
    "batch_size", "group_size", "bp_action", "bp_regime", "exec_entropy_mean", "exec_entropy_var",
    "plan_entropy_mean", "plan_entropy_var", "prompts_s", "sample_s", "decode_s", "reward_s",
    "advantage_s", "train_s", "save_s", "tokens_sampled", "tokens_per_second",
    "mean_abs_logprob_diff", "kl_k3",
    "ratio_p99", "ratio_max", "clip_fraction", "grad_norm", "groups_all_correct",
    "groups_all_wrong", "groups_tied", "no_verdict_count", "engine", "token_entropy",
    "truncated_rate", "repeated_rate", "health_warnings", "health_s", "failed_prompts",
    "steps_off_policy", "rollout_wait_s", "engine_wait_s",
}  # fmt: skip


# The run continues, however many completions have no verdict.
FORGIVING = {"reward.max_failure_rate": 1.0}


class FirstSymbol:
    """1 for a completion that begins with the reference."""

    def score(self, items):
        return [Verdict(float(item.completion[:1] == item.example.reference)) for item in items]


class AlwaysRight:
    def score(self, items):
        return [Verdict(1.0) for _ in items]


class HalfJudged(FirstSymbol):
    """No verdict for every second completion, else as FirstSymbol."""

    def score(self, items):
        verdicts = super().score(items)
        verdicts[1::2] = [Verdict(None, "too dark to read")] * len(verdicts[1::2])
        return verdicts


class NeverJudged:
    def score(self, items):
        return [Verdict(None, "the judge is asleep") for _ in items]


class CtrlC(FirstSymbol):
    """Ctrl-C at the third step."""

    calls = 0

    def score(self, items):
        self.calls += 1
        if self.calls == 3:
            raise KeyboardInterrupt
        return super().score(items)


class CtrlCAtOnce:
    def score(self, _items):
        raise KeyboardInterrupt


class Deaf(FakeBackend):
    """A service that fails to answer the second prompt of step 1, and every prompt of step 2."""

    def sample(self, requests, params):
        key = requests[0].key
        failed = {1: [1], 2: [0, 1]}.get(key.step, []) if key.purpose == Purpose.SAMPLE else []
        return (row for row in super().sample(requests, params) if row[0] not in failed)


class Metered(FakeBackend):
    """Costs 1 a step, and has 2 to spend."""

    capabilities = replace(
        FakeBackend.capabilities,
        trainer=replace(FakeBackend.capabilities.trainer, resume="approximate"),
    )
    spent = 0

    def usage(self):
        self.spent += 1
        return Usage({"cost": float(self.spent)}, "2 are spent" if self.spent >= 2 else "")

    def load(self, ref):
        super().load(ref)
        return Restored("cold", "the service has forgotten the optimiser")


class Exploding(FakeBackend):
    """Its second step meets advantages that are not numbers."""

    def train(self, batch):
        if batch.step == 1:
            batch.advantages_t[:] = np.nan
        return super().train(batch)


def plugin(name: type) -> str:
    return f"{__name__}:{name.__name__}"


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def timeless(rows: list[dict]) -> list[dict]:
    return [
        {key: row[key] for key in row if not key.endswith("_s") and key != "tokens_per_second"}
        for row in rows
    ]


def test_learns(make_config):
    summary = train(make_config({"reward.type": plugin(FirstSymbol), "training.max_steps": 40}))
    assert summary.first_rate is not None
    assert summary.last_rate is not None
    assert summary.first_rate < 0.4
    assert summary.last_rate > 0.8


CURVE = {"logging.learning_curve": True}


def test_writes_the_files_of_a_run(make_config):
    config = make_config({"reward.type": plugin(FirstSymbol), "training.save_every": 2, **CURVE})
    summary = train(config)
    written = {str(p.relative_to(summary.run_dir)) for p in summary.run_dir.rglob("*.*")}
    assert written == {
        "config.toml", "metadata.json", "metrics.jsonl", "emergence/steps.jsonl",
        "emergence/generations.jsonl",
        "final/policy.npy", "final/tokenizer.json", "final/tokenizer_config.json",
        "learning_curve.png", "trainer_state.json", ".lock",
        *(
            f"checkpoints/step_00000{step}/{name}"
            for step in (2, 4)
            for name in ("policy.npy", "state.json", "trainer/state.npz")
        ),
    }  # fmt: skip
    assert summary.adapter == str(summary.run_dir / "final")
    assert "seed = 5" in (summary.run_dir / "config.toml").read_text()


def test_metrics_hold_every_figure(make_config):
    summary = train(make_config({"reward.type": plugin(FirstSymbol)}))
    rows = read_metrics(summary.run_dir)
    assert [row["step"] for row in rows] == [0, 1, 2, 3]
    assert all(row.keys() >= ISSUE_KEYS for row in rows)
    assert all(row["rollout_wait_s"] is row["engine_wait_s"] is None for row in rows)
    first = rows[0]
    assert first["condition"] == "maxrl+gtpo_sepa"
    assert (first["batch_size"], first["group_size"], first["num_datums"]) == (2, 8, 16)
    assert first["tokens_sampled"] == first["exec_token_count"] > 0
    assert (first["plan_entropy_mean"], first["bp_action"]) == (None, "off")
    assert first["ratio_max"] == pytest.approx(1.0)


def test_logs_name_the_rule_as_configured(make_config):
    told = {"reward.type": plugin(FirstSymbol), "logging.condition": "slow"}
    summary = train(make_config(told))
    files = ("metrics.jsonl", "emergence/steps.jsonl")
    rows = [row for file in files for row in rows_of(summary.run_dir / file)]
    assert {summary.condition, *(row["condition"] for row in rows)} == {"slow"}


def test_emergence_files(make_config):
    summary = train(make_config({"reward.type": plugin(FirstSymbol), "training.max_steps": 1}))
    [step] = rows_of(summary.run_dir / "emergence/steps.jsonl")
    generations = rows_of(summary.run_dir / "emergence/generations.jsonl")
    assert step.keys() == {"step", "mean_reward", "correct_count", "total_count", "condition"}
    assert step["total_count"] == len(generations) == 16
    assert step["correct_count"] == sum(row["reward"] for row in generations)
    assert generations[0].keys() == {
        "step", "prompt", "completion", "reference", "reward", "no_verdict_reason", "advantage",
        "verdict_text", "num_tokens", "stop_reason",
    }  # fmt: skip
    assert sum(row["advantage"] for row in generations[:8]) == pytest.approx(0.0, abs=1e-9)
    assert {row["prompt"] for row in generations[:8]} == {generations[0]["reference"]}


def test_same_seed_same_run(make_config):
    config = make_config({"reward.type": plugin(FirstSymbol), "training.max_steps": 6})
    one, two = train(config), train(config)
    assert one.run_dir != two.run_dir
    assert not missing_evidence(one.run_dir)
    assert timeless(read_metrics(one.run_dir)) == timeless(read_metrics(two.run_dir))
    for name in ("emergence/steps.jsonl", "emergence/generations.jsonl", "final/policy.npy"):
        assert (one.run_dir / name).read_bytes() == (two.run_dir / name).read_bytes()


def test_seeds_differ(make_config):
    runs = [train(make_config({"training.seed": s, "training.max_steps": 1})) for s in (1, 2)]
    one, two = (rows_of(run.run_dir / "emergence/generations.jsonl") for run in runs)
    assert [row["completion"] for row in one] != [row["completion"] for row in two]


def test_seed_is_drawn_and_recorded(make_config):
    summary = train(make_config({"training.seed": -1, "training.max_steps": 1}))
    assert summary.seed >= 0
    assert f"seed = {summary.seed}" in (summary.run_dir / "config.toml").read_text()


def test_steps_without_signal_are_logged_and_saved(make_config):
    config = make_config({"reward.type": plugin(AlwaysRight), "training.save_every": 2})
    summary = train(config)
    rows = read_metrics(summary.run_dir)
    assert [row["step"] for row in rows] == [0, 1, 2, 3]
    assert all((row["num_datums"], row["tokens_trained"]) == (0, 0) for row in rows)
    assert all(row["loss"] is None and row["grad_norm"] is None for row in rows)
    assert [row["groups_all_correct"] for row in rows] == [2] * 4
    assert (summary.run_dir / "checkpoints/step_000002").is_dir()
    prompts = [row["prompt"] for row in rows_of(summary.run_dir / "emergence/generations.jsonl")]
    assert prompts[:16] != prompts[16:32]  # the data cursor moves on


def test_no_verdict_is_counted_and_never_zero(make_config):
    config = make_config({**FORGIVING, "reward.type": plugin(HalfJudged), "training.max_steps": 3})
    summary = train(config)
    rows = read_metrics(summary.run_dir)
    generations = rows_of(summary.run_dir / "emergence/generations.jsonl")
    steps = rows_of(summary.run_dir / "emergence/steps.jsonl")
    assert [row["no_verdict_count"] for row in rows] == [8] * 3
    assert [row["total_count"] for row in steps] == [8] * 3
    assert all(row["num_datums"] <= 8 for row in rows)
    unjudged = generations[1::2]
    assert {row["reward"] for row in unjudged} == {row["advantage"] for row in unjudged} == {None}
    assert {row["no_verdict_reason"] for row in unjudged} == {"too dark to read"}
    # Entropy statistics pool the tokens of all completions, those without a verdict too.
    assert [row["exec_token_count"] for row in rows] == [row["tokens_sampled"] for row in rows]


def test_nothing_judged_has_no_rates(make_config):
    summary = train(
        make_config({**FORGIVING, "reward.type": plugin(NeverJudged), "training.max_steps": 2})
    )
    rows = read_metrics(summary.run_dir)
    assert all(
        row[key] is None
        for row in rows
        for key in ("mean_reward", "correct_rate", "running_correct_rate", "loss")
    )
    assert summary.first_rate is summary.last_rate is None
    assert all(row["max_token_hit_rate"] > 0 for row in rows)


@pytest.mark.parametrize("kind", ["surprisal", "shannon_entropy"])
def test_a_prompt_without_an_answer_is_counted_and_never_zero(make_config, kind):
    rule = {"reward.type": plugin(FirstSymbol), "algorithm.uncertainty_kind": kind}
    summary = train(make_config({**rule, "backend.backend": plugin(Deaf)}))
    rows = read_metrics(summary.run_dir)
    generations = rows_of(summary.run_dir / "emergence/generations.jsonl")
    assert [row["failed_prompts"] for row in rows] == [0, 1, 2, 0]
    assert [row["step"] for row in generations].count(1) == 8
    assert not [row for row in generations if row["step"] == 2]
    half, nothing = rows[1], rows[2]
    uniform = ("groups_all_correct", "groups_all_wrong", "groups_tied")
    assert half["num_datums"] == 8 or sum(half[key] for key in uniform) == 1
    assert (nothing["num_datums"], nothing["tokens_sampled"], nothing["group_size"]) == (0, 0, 0)
    assert [nothing[key] for key in uniform] == [0, 0, 0]
    for key in ("mean_reward", "correct_rate", "max_token_hit_rate", "loss", "token_entropy"):
        assert nothing[key] is None
    assert nothing["running_correct_rate"] == half["running_correct_rate"]


def test_ctrl_c_saves_the_last_full_step(make_config, tmp_path):
    with pytest.raises(InterruptedRunError, match="after 2 steps") as caught:
        train(make_config({"reward.type": plugin(CtrlC), **CURVE}))
    saved = tmp_path / "run/checkpoints/step_000002"
    assert caught.value.exit_code == 130
    assert str(saved) in str(caught.value)
    assert (saved / "policy.npy").is_file()
    assert len(read_metrics(tmp_path / "run")) == 2
    assert (tmp_path / "run/learning_curve.png").is_file()


def test_a_run_draws_no_curve_unless_it_is_to(make_config):
    summary = train(make_config({"reward.type": plugin(FirstSymbol), "training.max_steps": 1}))
    assert not (summary.run_dir / "learning_curve.png").exists()


def test_ctrl_c_before_the_first_step_saves_nothing(make_config, tmp_path):
    with pytest.raises(InterruptedRunError, match="nothing to save"):
        train(make_config({"reward.type": plugin(CtrlCAtOnce)}))
    assert not list((tmp_path / "run").rglob("policy.npy"))


def test_non_finite_loss_stops_the_run(make_config, tmp_path):
    config = make_config({"backend.backend": plugin(Exploding), "reward.type": plugin(FirstSymbol)})
    with pytest.raises(RunError, match="step 1: the loss is nan") as caught:
        train(config)
    dump = tmp_path / "run/nonfinite/step_000001.npz"
    assert str(dump) in str(caught.value)
    with np.load(dump) as batch:
        assert np.isnan(batch["advantages_t"]).all()
        assert batch["prompt_lengths"].sum() == len(batch["prompt_tokens"])
    *_, last = read_metrics(tmp_path / "run")
    assert (last["step"], last["loss"]) == (1, None)
    assert "nonfinite" in last["health_warnings"]
    assert not (tmp_path / "run/final").exists()


def test_entropy_is_asked_for_when_the_rule_needs_it(make_config):
    rule = {"algorithm.uncertainty_kind": "shannon_entropy", "training.max_steps": 1}
    summary = train(make_config({"reward.type": plugin(FirstSymbol), **rule}))
    [row] = read_metrics(summary.run_dir)
    assert 0 < row["exec_entropy_mean"] <= np.log(13)


def test_adapters_go_where_they_are_asked_to(make_config, tmp_path):
    config = make_config({"backend.adapter_path": str(tmp_path / "adapters")})
    one, two = train(config), train(config)
    assert one.adapter == str(tmp_path / "adapters/final")
    assert two.adapter == str(tmp_path / "adapters-2/final")
    assert not (one.run_dir / "final").exists()


def test_what_a_backend_uses_is_in_the_metrics(make_config):
    summary = train(make_config({"backend.backend": plugin(Metered), "training.max_steps": 2}))
    assert [row["cost"] for row in read_metrics(summary.run_dir)] == [1.0, 2.0]
    assert summary.adapter == str(summary.run_dir / "final")  # nothing was left to do


def test_a_spent_budget_ends_the_run_after_its_step(make_config, tmp_path):
    config = make_config({"backend.backend": plugin(Metered), "reward.type": plugin(FirstSymbol)})
    with pytest.raises(StoppedRunError) as caught:
        train(config)
    saved = tmp_path / "run/checkpoints/step_000002"
    assert str(caught.value) == (
        f"stopped after 2 steps: 2 are spent; adapter saved in {saved}; "
        f"resume with `retrain --resume {tmp_path / 'run'}`"
    )
    assert caught.value.exit_code == 130
    assert len(read_metrics(tmp_path / "run")) == 2
    assert (saved / "state.json").is_file()
    assert not (tmp_path / "run/final").exists()


def test_a_budget_is_not_overdrawn_by_the_last_evaluation(make_config, tmp_path):
    held_out = tmp_path / "held_out.jsonl"
    held_out.write_text('{"question": "1", "answer": "1"}\n')
    asked = {"eval.every": 2, "eval.path": str(held_out), "training.max_steps": 2}
    with pytest.raises(StoppedRunError, match="after 2 steps"):
        train(make_config({"backend.backend": plugin(Metered), **asked}))
    assert [row["step"] for row in read_evaluations(tmp_path / "run")] == [0]
    resumed = train(
        make_config(
            {"backend.backend": plugin(Metered), **asked, "resume.from": str(tmp_path / "run")}
        )
    )
    assert [row["step"] for row in read_evaluations(resumed.run_dir)] == [0, 2]
    assert resumed.adapter == str(tmp_path / "run/final")
