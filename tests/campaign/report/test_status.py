import json
import os
import socket

import psutil
import pytest
from filelock import FileLock
from rich.console import Console

from retrain_backends.errors import ConfigError
from retrain_backends.tracking.tail import last_rows
from retrain_campaign.report.status import as_plain, scan
from retrain_campaign.report.status_tables import render

NO_PROCESS = 2**22 + 1  # above the largest number of a process


def text_of(report, **options) -> str:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(render(report, **options))
    return capture.get()


@pytest.fixture
def campaign(tmp_path, leave_campaign):
    runs = {
        ("grpo+none", 1): ("done", [0.2] * 10, [(0, 0.1), (10, 0.4)]),
        ("grpo+none", 2): ("running", [0.0] * 3 + [None, 0.3]),
        ("maxrl+none", 1): ("failed", [0.5, 0.7]),
        ("maxrl+none", 2): ("planned", []),
    }
    return leave_campaign(tmp_path / "campaign", runs)


def test_a_campaign(campaign):
    [found] = scan(campaign.parent).campaigns
    assert (found.name, found.path) == ("rules", campaign)
    assert found.counts == {"running": 1, "failed": 1, "done": 1, "planned": 1}
    assert (found.steps, found.max_steps) == (17, 40)
    done, running, failed, planned = found.runs
    assert (done.correct, done.held_out) == (pytest.approx(0.2), 0.4)
    assert (running.steps, running.correct) == (5, pytest.approx(0.075))
    assert (failed.state, failed.reason) == ("failed", "its loss is not finite")
    assert (planned.steps, planned.correct, planned.held_out) == (0, None, None)


def test_a_run_whose_process_is_gone(tmp_path, leave_campaign):
    runs = {("grpo+none", 1): ("running", [0.5]), ("grpo+none", 2): ("done", [0.5] * 10)}
    here = {"host": socket.gethostname(), "pid": NO_PROCESS}
    directory = leave_campaign(tmp_path / "c", runs, **here)
    assert [run.state for run in scan(directory).campaigns[0].runs] == ["lost", "done"]
    with FileLock(directory / "runs/grpo+none_s1/.lock"):
        assert scan(directory).campaigns[0].runs[0].state == "running"


@pytest.mark.parametrize("where", [{"host": "elsewhere", "pid": NO_PROCESS}, {"pid": None}])
def test_of_other_machines_the_manifest_is_believed(tmp_path, leave_campaign, where):
    directory = leave_campaign(tmp_path / "c", {("a", 1): ("running", [0.5])}, **where)
    assert scan(directory).campaigns[0].runs[0].state == "running"


def test_a_process_that_is_running(tmp_path, leave_campaign):
    here = {"host": socket.gethostname(), "pid": os.getpid()}
    directory = leave_campaign(tmp_path / "c", {("a", 1): ("running", [0.5])}, **here)
    assert scan(directory).campaigns[0].runs[0].state == "running"


def test_a_later_process_of_the_same_number_is_another_one(tmp_path, leave_campaign):
    begun = psutil.Process().create_time()
    here = {"host": socket.gethostname(), "pid": os.getpid(), "pid_started": begun - 60}
    directory = leave_campaign(tmp_path / "c", {("a", 1): ("running", [0.5])}, **here)
    assert scan(directory).campaigns[0].runs[0].state == "lost"


@pytest.mark.parametrize("text", ['{"files": []}', "[]", '{"runs": 3}'])
def test_the_manifest_of_another_program_is_none(tmp_path, leave_run, text):
    leave_run(tmp_path / "other/run", [0.5])
    (tmp_path / "other/manifest.json").write_text(text)
    found = scan(tmp_path)
    assert ([run.name for run in found.runs], found.problems) == (["run"], ())


@pytest.mark.parametrize("file", ["manifest.json", "manifest.log"])
def test_a_damaged_campaign_is_reported_and_rebuilt(campaign, leave_run, file):
    leave_run(campaign.parent / "alone", [0.5])
    (campaign / file).write_text("{\n")
    found = scan(campaign.parent)
    [problem] = found.problems
    assert problem.startswith(f"{campaign / file}: is damaged")
    assert [run.name for run in found.runs] == ["alone"]
    assert len(found.campaigns[0].runs) == 4
    assert problem[:60] in text_of(found)
    assert as_plain(found)["problems"] == [problem]


def test_if_nothing_is_left_of_the_manifest_the_runs_are_listed(campaign):
    for file in ("manifest.json", "manifest.log"):
        (campaign / file).write_text("{\n")
    found = scan(campaign.parent)
    [problem] = found.problems
    assert problem.startswith(f"{campaign / 'manifest.json'}: is damaged")
    names = ["grpo+none_s1", "grpo+none_s2", "maxrl+none_s1"]
    assert ([run.name for run in found.runs], found.campaigns) == (names, ())


@pytest.mark.parametrize(
    ("lost", "what"),
    [
        (".", "its directory is gone"),
        ("metrics.jsonl", "metrics.jsonl has 0 of 10 steps"),
        ("final", "its adapter is gone"),
    ],
)
def test_a_finished_run_whose_results_are_gone(campaign, lost, what):
    (campaign / "runs/grpo+none_s1" / lost).rename(campaign / "elsewhere")
    found = scan(campaign).campaigns[0]
    assert (found.runs[0].state, found.runs[0].reason) == ("lost", f"was done, but {what}")
    assert "lost: was done, but " in text_of(scan(campaign))


@pytest.mark.parametrize("row", ['{"loss": 1.0}', "[1]", '{"step": "one"}', '{"step": true}'])
def test_logs_of_another_program_have_no_steps(tmp_path, leave_run, row):
    directory = leave_run(tmp_path / "run", [])
    for name in ("metrics.jsonl", "eval.jsonl"):
        (directory / name).write_text(row + "\n")
    [run] = scan(tmp_path).runs
    assert (run.steps, run.correct, run.held_out) == (0, None, None)


def test_figures_that_are_none_do_not_count(tmp_path, leave_run):
    directory = leave_run(tmp_path / "run", [])
    (directory / "metrics.jsonl").write_text('{"step": 1, "correct_rate": "all"}\n')
    (directory / "eval.jsonl").write_text('{"step": 1, "accuracy": "good"}\n')
    [run] = scan(tmp_path).runs
    assert (run.steps, run.correct, run.held_out) == (2, None, None)


def test_single_runs(tmp_path, leave_run):
    leave_run(tmp_path / "logs/a", [0.5] * 10)
    leave_run(tmp_path / "logs/deep/b", [0.5] * 4, [(0, 0.25)])
    leave_run(tmp_path / "logs/a/checkpoints/copy", [0.5])  # in a run: part of it
    leave_run(tmp_path / "logs/c", [])
    (tmp_path / "logs/b").symlink_to(tmp_path / "logs")
    with FileLock(tmp_path / "logs/c/.lock"):
        found = scan(tmp_path)
    states = {run.name: (run.state, run.steps, run.max_steps) for run in found.runs}
    assert states == {"a": ("done", 10, 10), "b": ("stopped", 4, 10), "c": ("running", 0, 10)}
    assert (found.runs[2].held_out, found.campaigns) == (0.25, ())


def test_looking_changes_nothing(campaign, tmp_path, leave_run):
    leave_run(tmp_path / "run", [0.5])
    (tmp_path / "run/.lock").touch()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    scan(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_as_plain_values(campaign):
    document = json.loads(json.dumps(as_plain(scan(campaign))))
    [found] = document["campaigns"]
    assert (found["counts"]["failed"], found["steps"]) == (1, 17)
    assert found["runs"][0] == {
        "name": "grpo+none_s1", "path": str(campaign / "runs/grpo+none_s1"), "state": "done",
        "steps": 10, "max_steps": 10, "correct": pytest.approx(0.2), "held_out": 0.4,
        "condition": "grpo+none", "seed": 1, "reason": "", "waits": "",
    }  # fmt: skip


def test_what_is_shown(campaign, leave_run):
    leave_run(campaign.parent / "alone", [0.5] * 2)
    text = text_of(scan(campaign.parent))
    assert "4 runs: 1 running, 1 failed, 1 done, 1 planned; 17 of 40 steps (42%)" in text
    assert text.index("maxrl+none_s1") < text.index("grpo+none_s2")  # failures come first
    assert "failed: its loss is not finite" in text
    assert "grpo+none_s1" not in text
    assert "single runs" in text
    assert "grpo+none_s1" in text_of(scan(campaign), every_run=True)


def test_many_runs_are_summed_up(tmp_path, leave_campaign):
    runs = {("a", seed): ("running", [0.5]) for seed in range(30)}
    text = text_of(scan(leave_campaign(tmp_path / "c", runs)))
    assert "and 10 more; --all lists them" in text
    assert len(text.splitlines()) < 30


def test_nothing_there(tmp_path):
    assert text_of(scan(tmp_path)) == "no runs and no campaigns found\n"
    with pytest.raises(ConfigError, match="is not a directory"):
        scan(tmp_path / "missing")


@pytest.mark.parametrize("size", [10, 5_000, 40_000])
def test_the_last_rows_of_a_file(tmp_path, size):
    path = tmp_path / "rows.jsonl"
    assert last_rows(path, 2) == []
    rows = [{"step": step, "text": "x" * size} for step in range(5)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 5, "te')
    assert last_rows(path, 2) == rows[-2:]
    assert last_rows(path, 9) == rows
    path.write_text("not\njson\n")
    assert last_rows(path, 1) == []
