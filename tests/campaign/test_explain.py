import pytest

from retrain_backends.errors import ConfigError
from retrain_campaign.disk import adapter_bytes, room_of, size
from retrain_campaign.explain import explain_campaign, span
from retrain_campaign.plan import load_campaign

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
    told = explain_campaign(campaign())
    assert told.problems == ()
    assert "runs: 6: 2 conditions x 3 seeds" in text_of(told, "The campaign")
    assert "steps: 90 in all" in text_of(told, "The campaign")
    runs = text_of(told, "The runs")
    assert "grpo+none: grpo and none; 10 steps each\n: grpo+none_s1, grpo+none_s2" in runs
    assert "with its own training.lr, training.max_steps; 20 steps each" in runs
    assert "at once: 2 runs" in text_of(told, "Workers")
    time = text_of(told, "Time")
    assert "about 6 x start + 90 x a step, divided by 2 at once" in time
    assert f"tokens: {90 * 4 * 8 * 16:,} sampled at most" in time
    assert "--campaign-seeds 1" in time
    assert "20 steps under one seed (but 20 of `slow`, by its own training.max_steps)," in time


def test_judged_by_an_earlier_campaign(campaign, tmp_path, leave_campaign):
    times = {"started": "2026-01-01T00:00:00+00:00", "ended": "2026-01-01T00:00:30+00:00"}
    runs = {("grpo+none", seed): ("done", [0.5] * 10) for seed in (1, 2)}
    leave_campaign(tmp_path / "pilot", runs, attempts=1, **times)
    told = explain_campaign(campaign(), tmp_path / "pilot")
    time = text_of(told, "Time, judged by")
    assert "measured: 20 steps of 2 runs" in time
    assert "a step: 1.1 s (median)" in time
    assert "starting, ending: 19.1 s a run (median)" in time
    assert "with 2 runs at once; 90 %: " in time
    assert "as in the earlier runs" in text_of(told, "Room on the disk")
    assert told.notes[0] == "Judged by all earlier runs, having none of their own: slow."


def test_rows_that_are_torn_off_or_of_another_program_are_not_measured(
    campaign, tmp_path, leave_run
):
    metrics = leave_run(tmp_path / "pilot/run", [0.5] * 4) / "metrics.jsonl"
    metrics.write_text(metrics.read_text() + '{"step": 4, "step_t')
    foreign = leave_run(tmp_path / "pilot/foreign", []) / "metrics.jsonl"
    foreign.write_text('{"step": 1, "loss": 2.0}\n')
    told = explain_campaign(campaign(), tmp_path / "pilot")
    assert "measured: 4 steps of 1 run" in text_of(told, "Time, judged by")
    with pytest.raises(ConfigError, match="has no run with a finished step"):
        explain_campaign(campaign(), foreign.parent)


def test_what_would_be_refused(campaign):
    told = explain_campaign(campaign('[reward]\ntype = "no_module.Reward"\n'))
    [problem] = told.problems
    assert problem.startswith("reward.type: `no_module.Reward`: there is no module `no_module`")


def test_room_on_the_disk(campaign):
    config = campaign().base
    adapter = adapter_bytes("builtin:tiny-arithmetic", 16)
    assert adapter == 4 * 16 * 4 * (2 * 256 + 2 * 192 + 3 * 512)
    room = room_of(config)
    assert (room.adapter, room.checkpoints, room.logs_measured) == (adapter, 3, False)
    assert room.total == 13 * adapter + room.logs
    assert room_of(config.model_copy(update={"model": _unknown(config)})).total is None


def _unknown(config):
    return config.model.model_copy(update={"model": "no-such/model"})


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.1234, "0.123 s"), (99, "99 s"), (150, "2.5 min"), (9000, "2.5 hours"), (1e6, "11.6 days")],
)
def test_times_in_words(seconds, words):
    assert span(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"), [(12, "12 B"), (2490368, "2.49 MB"), (3e9, "3 GB"), (1.5e13, "15.0 TB")]
)
def test_sizes_in_words(count, words):
    assert size(count) == words
