import pytest

from retrain_backends.errors import ConfigError
from retrain_campaign.explain import explain_campaign, format_seconds
from retrain_campaign.plan.campaign import load_campaign

FILE = """
[backend]
backend = "fake"
[model]
model = "builtin:tiny-arithmetic"
lora_rank = 16
[data]
source = "arithmetic"
[training]
batch_size = 4
group_size = 8
max_tokens = 16
save_every = 5
[logging]
log_dir = "logs/train"
[campaign]
seeds = [1, 2, 3]
max_steps = 10
parallel = true
max_workers = 2
"""
TWO_RULES = """
[[campaign.conditions]]
advantage_mode = "grpo"
transform_mode = "none"
[[campaign.conditions]]
advantage_mode = "maxrl"
transform_mode = "gtpo"
name = "slow"
training.lr = 1e-6
training.max_steps = 20
"""


@pytest.fixture
def campaign(tmp_path):
    def load(more: str = TWO_RULES):
        (tmp_path / "campaign.toml").write_text(FILE + more)
        return load_campaign(tmp_path / "campaign.toml")

    return load


def text_of(explanation, title: str) -> str:
    [rows] = [part.rows for part in explanation.chapters if part.title.startswith(title)]
    return "\n".join(f"{label}: {text}" for label, text in rows)


def test_what_a_campaign_would_do(campaign):
    explained = explain_campaign(campaign())
    assert explained.problems == ()
    assert "runs: 6: 2 conditions x 3 seeds" in text_of(explained, "The campaign")
    assert "steps: 90 in total" in text_of(explained, "The campaign")
    runs = text_of(explained, "The runs")
    assert "grpo+none: grpo and none; 10 steps each\n: grpo+none_s1, grpo+none_s2" in runs
    assert "with its own training.lr, training.max_steps; 20 steps each" in runs
    assert "at once: 2 runs" in text_of(explained, "Workers")
    time = text_of(explained, "Time")
    assert "about 6 x start + 90 x a step, divided by 2 at once" in time
    assert f"tokens: {90 * 4 * 8 * 16:,} sampled at most" in time
    assert "--campaign-seeds 1" in time
    assert "20 steps with one seed (but 20 of `slow`, by its own training.max_steps)," in time


def test_estimates_from_an_earlier_campaign(campaign, tmp_path, leave_campaign):
    times = {"started": "2026-01-01T00:00:00+00:00", "ended": "2026-01-01T00:00:30+00:00"}
    runs = {("grpo+none", seed): ("done", [0.5] * 10) for seed in (1, 2)}
    leave_campaign(tmp_path / "pilot", runs, attempts=1, **times)
    explained = explain_campaign(campaign(), tmp_path / "pilot")
    time = text_of(explained, "Time, estimated from")
    assert "measured: 20 steps of 2 runs" in time
    assert "a step: 1.1 s (median)" in time
    assert "start and end: 19 s per run (median)" in time
    assert "with 2 runs at once; 90 %: " in time
    assert "as in the earlier runs" in text_of(explained, "Disk space")
    assert explained.notes[0] == "Estimated from all earlier runs, having none of their own: slow."


def test_incomplete_rows_and_those_of_other_programs_are_skipped(campaign, tmp_path, leave_run):
    metrics = leave_run(tmp_path / "pilot/run", [0.5] * 4) / "metrics.jsonl"
    metrics.write_text(metrics.read_text() + '{"step": 4, "step_t')
    foreign = leave_run(tmp_path / "pilot/foreign", []) / "metrics.jsonl"
    foreign.write_text('{"step": 1, "loss": 2.0}\n')
    explained = explain_campaign(campaign(), tmp_path / "pilot")
    assert "measured: 4 steps of 1 run" in text_of(explained, "Time, estimated from")
    with pytest.raises(ConfigError, match="has no run with a finished step"):
        explain_campaign(campaign(), foreign.parent)


def test_what_would_be_refused(campaign):
    explained = explain_campaign(campaign('[reward]\ntype = "no_module.Reward"\n'))
    [problem] = explained.problems
    assert problem.startswith("reward.type: `no_module.Reward`: there is no module `no_module`")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.1234, "0.123 s"), (99, "99 s"), (150, "2.5 min"), (9000, "2.5 hours"), (1e6, "11.6 days")],
)
def test_durations_have_a_unit(seconds, words):
    assert format_seconds(seconds) == words
