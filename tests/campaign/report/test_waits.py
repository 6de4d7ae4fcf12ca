import pytest
from rich.console import Console

from retrain_campaign.report.status import scan
from retrain_campaign.report.status_tables import render
from retrain_campaign.report.waits import longer_wait

SERVED = '[inference]\nengine = "vllm"\n'
OVERLAPPING = SERVED + 'overlap = "exact"\n'
AHEAD = SERVED + "max_steps_off_policy = 1\n"
TINKER = '[backend]\nbackend = "tinker"\n'
TINKER_AHEAD = TINKER + "options = { max_steps_off_policy = 1 }\n"
BOTH = 'inference.overlap = "exact" or inference.max_steps_off_policy = 1'
MORE = "the trainer waits for completions 80% of the time: "
FASTER = "the engine waits for the trainer 80% of the time: "


def rows(trainer, engine, **figures):
    times = {"step_time_s": 2.0, "rollout_wait_s": trainer, "engine_wait_s": engine}
    return [{"step": step, **times, **figures} for step in range(3)]


@pytest.fixture
def wait(tmp_path):
    """`wait(config, trainer, engine)`: the line for these seconds of a step of two."""

    def line(config, *waits, **figures):
        path = tmp_path / "config.toml"
        path.write_text(config)
        return longer_wait(rows(*waits, **figures), path)

    return line


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (SERVED, f"{MORE}more servers in inference.url, {BOTH}"),
        (
            OVERLAPPING,
            f"{MORE}more servers in inference.url or inference.max_steps_off_policy = 1",
        ),
        (AHEAD, f"{MORE}more servers in inference.url"),
        (
            TINKER,
            f"{MORE}a larger backend.max_concurrent or backend.options.max_steps_off_policy = 1",
        ),
    ],
)
def test_when_the_engine_is_slow(wait, config, line):
    assert wait(config, 1.6, 0.4) == line


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (
            SERVED,
            f"{FASTER}a faster device in backend.devices, larger"
            f" backend.options.microbatch_tokens, {BOTH}",
        ),
        (TINKER, f"{FASTER}backend.options.max_steps_off_policy = 1"),
        (TINKER_AHEAD, ""),
    ],
)
def test_when_the_trainer_is_slow(wait, config, line):
    assert wait(config, 0.4, 1.6) == line


@pytest.mark.parametrize("waits", [(1.1, 0.9), (0.8, 0.2), (None, None), ("1", 2), (0.0, 0.0)])
def test_neither_side_waits_much_longer(wait, waits):
    assert not wait(SERVED, *waits)


def test_a_trainer_that_computes_log_probs_does_not_wait(wait):
    assert not wait(SERVED, 1.6, 0.4, rescore_s=1.0)


def test_rows_without_times_and_a_file_that_is_none(wait, tmp_path):
    assert not longer_wait([{"step": 3}], tmp_path / "nowhere")
    assert not longer_wait(rows(1.6, 0.4), tmp_path / "nowhere")
    assert not wait("[", 1.6, 0.4)


def test_status_shows_it(leave_run, tmp_path):
    directory = leave_run(tmp_path / "run", [0.5])
    with (directory / "config.toml").open("a") as config:
        config.write(SERVED)
    times = '"step_time_s": 1.0, "rollout_wait_s": 0.9, "engine_wait_s": 0.1'
    (directory / "metrics.jsonl").write_text(f'{{"step": 0, {times}}}\n')
    report = scan(tmp_path)
    [run] = report.runs
    assert run.waits.startswith("the trainer waits for completions 90% of the time: more servers")
    console = Console(width=300)
    with console.capture() as capture:
        console.print(render(report))
    assert f"{directory}: {run.waits}" in capture.get()
