"""Runs whose logs or older checkpoints were damaged are resumed, and say what is damaged."""

import json
import shutil
from pathlib import Path

import pytest

from retrain_backends.errors import RunError
from retrain_backends.train import train
from retrain_backends.train.checks.resume_check import check_resume
from retrain_backends.train.checks.training_evidence import missing_evidence
from retrain_backends.train.storage.checkpoint_search import find_checkpoint
from retrain_backends.types import Verdict

GENERATIONS = "emergence/generations.jsonl"
LOGS = ("metrics.jsonl", "emergence/steps.jsonl", GENERATIONS, "eval.jsonl")


class FirstSymbol:
    """1 for a completion that begins with the reference."""

    def score(self, items):
        return [Verdict(float(item.completion[:1] == item.example.reference)) for item in items]


def timeless(row: dict) -> dict:
    return {k: v for k, v in row.items() if k[-2:] != "_s" and k != "tokens_per_second"}


def rows_of(run: Path, name: str) -> list[dict]:
    return [timeless(json.loads(line)) for line in (run / name).read_text().splitlines()]


@pytest.fixture
def make_run(make_config, tmp_path):
    """Nine steps, saved after every second one, and evaluated after every third one."""
    (tmp_path / "test.jsonl").write_text('{"question": "3", "answer": "1"}\n')

    def make(**overrides):
        defaults = {
            "reward.type": f"{__name__}:FirstSymbol",
            "training.max_steps": 9,
            "training.save_every": 2,
            "training.keep_last": 4,
            "training.keep_best": False,
            "eval.every": 3,
            "eval.path": str(tmp_path / "test.jsonl"),
        }
        return make_config(defaults | overrides)

    return make


@pytest.fixture
def whole(make_run):
    run = train(make_run()).run_dir
    assert not missing_evidence(run)
    return run


@pytest.fixture
def stopped(whole):
    """The same run as if killed after its eighth step, with the checkpoints 4, 6 and 8."""
    shutil.rmtree(whole / "final")
    shutil.rmtree(whole / "checkpoints/step_000009")
    shutil.copytree(whole, whole.with_name("stopped"))
    run = whole.with_name("stopped")
    shutil.copy(run / "checkpoints/step_000008/state.json", run / "trainer_state.json")
    return run


@pytest.fixture
def resume(make_run, capsys):
    def resume(run: Path) -> str:
        capsys.readouterr()
        train(make_run(**{"resume.from": str(run)}))
        return capsys.readouterr().out

    return resume


def shorten(path: Path) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))


def change_last_digit(path: Path) -> None:
    """Of the second line, which stays a row."""
    lines = path.read_bytes().splitlines(keepends=True)
    at = max(lines[1].rfind(digit) for digit in (b"0", b"1", b"2", b"3"))
    lines[1] = lines[1][:at] + b"4" + lines[1][at + 1 :]
    path.write_bytes(b"".join(lines))


def break_row(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"step"', b'"stop"', 1))


@pytest.mark.parametrize("name", LOGS[1:])
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (Path.unlink, " is missing ("),
        (shorten, " has 2 of "),
        (change_last_digit, " changed"),
        (break_row, "; line 1 is not a row of this log"),
    ],
)
def test_a_damaged_log_never_blocks_a_resume(whole, stopped, resume, name, damage, said):
    damage(stopped / name)
    report = dict(check_resume(stopped).facts)
    assert report["damaged"].startswith(name)
    assert said in report["damaged"]
    assert (report["resumes"], report["exact"]) == ("yes", f"no: {report['damaged']}")
    shown = resume(stopped)
    assert f"damaged: {report['damaged']}\n" in shown
    assert "resuming after step 8, from step_000008" in shown
    for other in {*LOGS} - {name}:
        assert rows_of(stopped, other) == rows_of(whole, other)
    kept = rows_of(stopped, name)
    assert kept[-1] == rows_of(whole, name)[-1]
    assert set(map(str, kept)) <= set(map(str, rows_of(whole, name))) or damage is change_last_digit
    # What was lost stays known, and is not reported as new.
    facts = dict(check_resume(stopped).facts)
    assert facts["damaged"] == f"{report['damaged']} (found before)"
    assert not find_checkpoint(stopped).damaged_logs


@pytest.mark.parametrize(("rows", "step"), [(7, 6), (4, 4), (3, 8), (0, 8)])
def test_metrics_that_lost_rows_decide_the_step(whole, stopped, resume, rows, step):
    log = stopped / "metrics.jsonl"
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:rows]))
    shown = resume(stopped)
    assert f"metrics.jsonl has {rows} of " in shown
    assert f"resuming after step {step}, from step_00000{step}" in shown
    expected = rows_of(whole, "metrics.jsonl")
    # Before the oldest checkpoint there is nothing that could repeat them.
    assert rows_of(stopped, "metrics.jsonl") == (
        expected if step < 8 else expected[:rows] + expected[8:]
    )


def test_a_changed_row_of_the_metrics_is_reported_and_kept(whole, stopped, resume):
    change_last_digit(stopped / "metrics.jsonl")
    assert "damaged: metrics.jsonl lines 1 to 2 changed, and lines 3 to 8 " in resume(stopped)
    assert len(rows_of(stopped, "metrics.jsonl")) == 9


@pytest.mark.parametrize("damage", [Path.unlink, change_last_digit])
def test_questions_of_an_evaluation_are_covered(stopped, resume, damage):
    damage_file = stopped / "eval/step_000003.jsonl"
    if damage is change_last_digit:
        damage_file.write_bytes(damage_file.read_bytes().replace(b"3", b"4"))
    else:
        damage_file.unlink()
    assert "damaged: eval/step_000003.jsonl " in resume(stopped)


def test_a_resume_that_is_killed_before_its_first_checkpoint_loses_nothing(stopped, resume):
    shorten(stopped / GENERATIONS)
    state = stopped / "trainer_state.json"
    resume(stopped)
    lines = len(rows_of(stopped, GENERATIONS))
    # As it is after the resume has begun: the state is that of step 8, with the present marks.
    shutil.copy(stopped / "checkpoints/step_000008/state.json", state)
    shown = resume(stopped)
    assert "damaged: emergence/generations.jsonl has 2 of 128 lines" in shown
    assert len(rows_of(stopped, GENERATIONS)) == lines


def test_damage_of_older_checkpoints_is_reported(whole, stopped, resume):
    (stopped / "checkpoints/step_000004/policy.npy").write_bytes(b"")
    shutil.copy(
        stopped / "checkpoints/step_000008/state.json",
        stopped / "checkpoints/step_000006/state.json",
    )
    shown = resume(stopped)
    assert "damaged: step_000004: policy.npy was changed" in shown
    assert "damaged: step_000006: state.json is of another checkpoint, step_000008" in shown
    assert rows_of(stopped, "metrics.jsonl") == rows_of(whole, "metrics.jsonl")


def test_a_damaged_state_beside_its_pointer_is_written_again(stopped, resume):
    state = stopped / "checkpoints/step_000008/state.json"
    state.write_text("{}")
    assert "damaged: step_000008: state.json" in resume(stopped)
    (stopped / "trainer_state.json").unlink()
    assert find_checkpoint(stopped).saved.checkpoint == "step_000009"
    assert not [text for text in find_checkpoint(stopped).damages if "step_000008" in text]


def test_no_intact_checkpoint_is_an_error(stopped):
    for directory in (stopped / "checkpoints").iterdir():
        (directory / "policy.npy").unlink()
    with pytest.raises(RunError, match="there is no intact checkpoint to resume from"):
        find_checkpoint(stopped)
