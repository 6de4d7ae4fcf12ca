import json

import pytest

from retrain_backends.tracking.log_digests import mark_of
from retrain_backends.train.storage.state_file import STATE_FILE
from retrain_campaign.storage.run_results import (
    OUTPUT_FILE,
    adapter_of,
    damaged_logs,
    failure_reason,
    final_metrics,
    is_complete,
    last_lines,
)


@pytest.fixture
def run_dir(tmp_path):
    (tmp_path / "final").mkdir()
    (tmp_path / "learning_curve.png").touch()
    return tmp_path


@pytest.mark.parametrize(("steps", "complete"), [(0, False), (4, False), (5, True), (6, True)])
def test_a_run_is_complete_after_its_last_step(run_dir, steps, complete, leave_state):
    leave_state(run_dir, steps)
    assert is_complete(run_dir, 5) is complete


@pytest.mark.parametrize("missing", ["final", "learning_curve.png", STATE_FILE])
def test_a_run_is_incomplete_without(run_dir, missing, leave_state):
    leave_state(run_dir, 5)
    path = run_dir / missing
    path.rmdir() if path.is_dir() else path.unlink()
    assert not is_complete(run_dir, 5)


def test_a_run_that_draws_no_curve_is_complete_without_one(run_dir, leave_state):
    (run_dir / "learning_curve.png").unlink()
    leave_state(run_dir, 5, configuration={"logging.learning_curve": False})
    assert is_complete(run_dir, 5)


def test_a_state_that_is_damaged_counts_as_none(run_dir):
    (run_dir / STATE_FILE).write_text("{")
    assert not is_complete(run_dir, 5)


def test_the_adapter_is_a_directory_or_a_path_of_the_service(run_dir, leave_state):
    leave_state(run_dir, 5)
    assert adapter_of(run_dir, run_dir.parent) == f"{run_dir.name}/final"
    leave_state(run_dir, 5, final="tinker://a/b")
    assert adapter_of(run_dir, run_dir.parent) == "tinker://a/b"
    (run_dir / "final").rmdir()
    (run_dir / STATE_FILE).unlink()
    assert adapter_of(run_dir, run_dir.parent) is None


def test_logs_that_were_changed_since_are_named(tmp_path, leave_run, leave_state):
    run = leave_run(tmp_path / "run", [0.25, 0.5], [(2, 0.75)])
    assert damaged_logs(run) == ""  # without a state there is nothing to compare with
    names = ("metrics.jsonl", "eval.jsonl")
    leave_state(run, 2, logs={name: mark_of(run / name) for name in names})
    assert damaged_logs(run) == ""
    (run / "metrics.jsonl").write_text((run / "metrics.jsonl").read_text().replace("0.25", "0.5"))
    (run / "eval.jsonl").unlink()
    assert damaged_logs(run) == (
        "metrics.jsonl lines 1 to 2 changed; eval.jsonl is missing (1 line)"
    )


def test_final_metrics_are_of_the_last_rows(tmp_path, leave_run):
    run = leave_run(tmp_path / "run", [0.25, 0.5], [(0, 0.1), (2, 0.75)])
    found = final_metrics(run)
    assert (found["step"], found["correct_rate"], found["eval_accuracy"]) == (1, 0.5, 0.75)
    assert json.dumps(found)


def test_without_a_step_there_are_no_metrics(tmp_path):
    assert final_metrics(tmp_path) is None


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (1, "exit code 1"),
        (-9, "killed by SIGKILL"),
        (-99, "killed by signal 99"),
        (None, "its process is gone"),
    ],
)
def test_the_reason_of_a_failure(tmp_path, code, reason):
    assert failure_reason(tmp_path, code) == reason
    (tmp_path / OUTPUT_FILE).write_text("one\n\ntwo\n")
    assert failure_reason(tmp_path, code) == f"{reason}: one\ntwo"


def test_the_last_lines_are_few_and_short(tmp_path):
    path = tmp_path / "output.log"
    path.write_bytes(b"x" * 10**6 + b"\n" + b"".join(b"line %d\n" % i for i in range(9)) + b"\xff")
    assert last_lines(path) == "line 5\nline 6\nline 7\nline 8\n\ufffd"
    path.write_text("y" * 1000)
    assert last_lines(path) == "y" * 300
