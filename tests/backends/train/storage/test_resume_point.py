import json
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from retrain_backends.config import load_config
from retrain_backends.errors import ConfigError, InterruptedRunError, RunError
from retrain_backends.fake import STATE_FILE, FakeBackend
from retrain_backends.tokenizer import resolve_model
from retrain_backends.train import train
from retrain_backends.train.checks.training_evidence import missing_evidence
from retrain_backends.train.storage.resume_point import find_resume_point
from retrain_backends.types import Verdict


class FirstSymbol:
    """1 for a completion that begins with the reference."""

    def score(self, items):
        return [Verdict(float(item.completion[:1] == item.example.reference)) for item in items]


class CtrlC(FirstSymbol):
    """Ctrl-C at the sixth step."""

    calls = 0

    def score(self, items):
        self.calls += 1
        if self.calls == 6:
            raise KeyboardInterrupt
        return super().score(items)


class FullDisk(FakeBackend):
    """From the second checkpoint on, its state goes to a device that is always full."""

    saves = 0

    def save(self, directory):
        self.saves += 1
        if self.saves > 1:
            (directory / STATE_FILE).symlink_to("/dev/full")
        return super().save(directory)


class Losing(FakeBackend):
    """Its first update after a resume has no effect."""

    resumed = False

    def load(self, ref):
        self.resumed = True
        return super().load(ref)

    def train(self, batch):
        resumed, self.resumed = self.resumed, False
        if not resumed:
            return super().train(batch)
        with TemporaryDirectory() as directory:
            before = self.save(Path(directory))
            result = super().train(batch)
            super().load(before)
        return result


class Doubling(Losing):
    """Its first update after a resume is done twice."""

    def train(self, batch):
        if self.resumed:
            FakeBackend.train(self, batch)
            self.resumed = False
        return FakeBackend.train(self, batch)


class AlwaysRight:
    def score(self, items):
        return [Verdict(1.0) for _ in items]


def plugin(name: type) -> str:
    return f"{__name__}:{name.__name__}"


def logs_of(run_dir: Path) -> dict[str, list[str] | bytes]:
    """What must not depend on kills: every log without times, and the adapter."""
    found: dict[str, list[str] | bytes] = {"final": (run_dir / "final/policy.npy").read_bytes()}
    for name in ("metrics.jsonl", "emergence/steps.jsonl", "emergence/generations.jsonl"):
        rows = [json.loads(line) for line in (run_dir / name).read_text().splitlines()]
        found[name] = [
            json.dumps({k: v for k, v in row.items() if k[-2:] != "_s" and "_per_second" not in k})
            for row in rows
        ]
    return found


@pytest.fixture
def make_run(make_config):
    """A configuration of nine steps, saved after every second one."""

    def make(**overrides):
        defaults = {
            "reward.type": plugin(FirstSymbol),
            "training.max_steps": 9,
            "training.save_every": 2,
            "training.keep_last": 3,
        }
        return make_config(defaults | overrides)

    return make


@pytest.fixture
def whole(make_run):
    """The run that nobody stopped."""
    summary = train(make_run())
    assert not missing_evidence(summary.run_dir)
    return summary


@pytest.fixture
def stopped(make_run, tmp_path):
    """The directory of the same run as if killed in its eighth step, with a torn last row."""
    directory = tmp_path / "stopped"
    train(make_run(**{"training.max_steps": 7, "logging.log_dir": str(directory)}))
    shutil.rmtree(directory / "final")
    shutil.rmtree(directory / "checkpoints/step_000007")
    shutil.copy(directory / "checkpoints/step_000006/state.json", directory / "trainer_state.json")
    with (directory / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "condit')
    return directory


def resume(make_run, directory, **overrides):
    return train(make_run(**{"resume.from": str(directory)} | overrides))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_resumed_run_equals_an_uninterrupted_run(make_run, whole, stopped, capsys):
    summary = resume(make_run, stopped)
    assert summary.run_dir == stopped
    assert (summary.steps, summary.adapter) == (9, str(stopped / "final"))
    assert logs_of(stopped) == logs_of(whole.run_dir)
    shown = capsys.readouterr().out
    assert "resuming after step 6, from step_000006" in shown
    assert "repeating steps that were logged after the checkpoint: 1" in shown


@pytest.mark.parametrize("backend", [Losing, Doubling])
def test_a_lost_or_doubled_update_makes_a_difference(make_run, whole, tmp_path, backend):
    wrong = {"backend.backend": plugin(backend), "logging.log_dir": str(tmp_path / "wrong")}
    short = train(make_run(**wrong, **{"training.max_steps": 6}))
    resume(make_run, short.run_dir, **wrong)
    found, expected = logs_of(short.run_dir), logs_of(whole.run_dir)
    assert {key for key in found if found[key] != expected[key]} >= {"final", "metrics.jsonl"}


@pytest.mark.parametrize("damage", [Path.unlink, flip, lambda path: path.write_bytes(b"")])
@pytest.mark.parametrize("name", ["policy.npy", "trainer/state.npz"])
def test_a_damaged_checkpoint_is_skipped(make_run, whole, stopped, name, damage, capsys):
    damage(stopped / "checkpoints/step_000006" / name)
    resume(make_run, stopped)
    assert logs_of(stopped) == logs_of(whole.run_dir)
    assert f"damaged: step_000006: {name} " in capsys.readouterr().out


@pytest.mark.parametrize("damage", [Path.unlink, flip, lambda path: path.write_bytes(b"")])
def test_a_damaged_pointer_is_skipped(make_run, whole, stopped, damage, capsys):
    damage(stopped / "trainer_state.json")
    resume(make_run, stopped)
    assert logs_of(stopped) == logs_of(whole.run_dir)
    shown = capsys.readouterr().out
    assert "damaged: the newest state: trainer_state.json" in shown
    assert "resuming after step 6" in shown


def test_nothing_intact_is_an_error(make_run, stopped):
    for directory in (stopped / "checkpoints").iterdir():
        flip(directory / "policy.npy")
    with pytest.raises(RunError, match="there is no intact checkpoint to resume from") as caught:
        resume(make_run, stopped)
    assert "step_000004: policy.npy" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_run_without_a_checkpoint_starts_again(make_run, whole, stopped):
    shutil.rmtree(stopped / "checkpoints")
    (stopped / "trainer_state.json").unlink()
    resume(make_run, stopped)
    assert logs_of(stopped) == logs_of(whole.run_dir)


def test_ctrl_c_leaves_a_run_that_can_be_resumed(make_run, whole, tmp_path):
    ctrl_c = {"reward.type": plugin(CtrlC), "logging.log_dir": str(tmp_path / "mine")}
    with pytest.raises(InterruptedRunError, match="retrain --resume"):
        train(make_run(**ctrl_c))
    with pytest.raises(ConfigError, match=r"reward\.type: the run in"):
        resume(make_run, tmp_path / "mine")
    ctrl_c["logging.log_dir"] = str(tmp_path / "other")
    # Its own count of calls begins again, so that it does not come to the sixth.
    resume(make_run, tmp_path / "mine", **ctrl_c)
    assert logs_of(tmp_path / "mine") == logs_of(whole.run_dir)
    assert not (tmp_path / "other").exists()


def test_a_finished_run_can_be_made_longer(make_run, whole, tmp_path):
    short = train(make_run(**{"training.max_steps": 5, "logging.log_dir": str(tmp_path / "short")}))
    resume(make_run, short.run_dir, **{"training.save_every": 3})
    assert logs_of(short.run_dir) == logs_of(whole.run_dir)
    again = resume(make_run, short.run_dir)  # there is nothing left to do
    assert again.steps == 9
    assert logs_of(short.run_dir) == logs_of(whole.run_dir)


def test_a_changed_meaning_is_refused_field_by_field(make_run, stopped):
    before = {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}
    changes = {"training.lr": 0.25, "training.batch_size": 3, "backend.options": {"positions": 3}}
    with pytest.raises(ConfigError) as caught:
        resume(make_run, stopped, **changes, **{"training.max_steps": 3})
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "backend.options.positions", "backend.options.vocab_size", "training.batch_size",
        "training.lr", "training.max_steps",
    ]  # fmt: skip
    assert "training.lr: the run in" in str(caught.value)
    assert "has 0.5, not 0.25; set it back" in str(caught.value)
    assert before == {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}


def test_other_data_are_refused(make_run, stopped, tmp_path):
    (tmp_path / "digits.jsonl").write_text('{"question": "1", "answer": "2"}\n')
    with pytest.raises(ConfigError, match=r"data\.source: the examples have changed"):
        resume(make_run, stopped)


def test_another_model_of_the_same_name_is_refused(make_run, tmp_path):
    model = shutil.copytree(resolve_model("builtin:tiny-arithmetic"), tmp_path / "model")
    mine = {"model.model": str(model), "training.max_steps": 4}
    first = train(make_run(**mine))
    flip(model / "model.safetensors")
    with pytest.raises(ConfigError, match=r"model\.model: model\.safetensors has changed"):
        resume(make_run, first.run_dir, **{"model.model": str(model)})


@pytest.fixture
def evaluation(tmp_path):
    """Settings of an evaluation, with a file of its questions."""
    (tmp_path / "test.jsonl").write_text('{"question": "3", "answer": "1"}\n')
    return {"eval.every": 2, "eval.path": str(tmp_path / "test.jsonl"), "eval.max_examples": 0}


@pytest.fixture
def evaluated(make_run, evaluation):
    """A run of four steps that was evaluated."""
    return train(make_run(**evaluation, **{"training.max_steps": 4}))


def test_other_held_out_questions_are_refused(make_run, evaluation, evaluated):
    Path(evaluation["eval.path"]).write_text('{"question": "4", "answer": "1"}\n')
    with pytest.raises(ConfigError, match="eval: the held-out questions have changed"):
        resume(make_run, evaluated.run_dir, **evaluation)


def test_an_evaluation_that_was_switched_off_stays_what_it_was(make_run, evaluation, evaluated):
    off = {**evaluation, "eval.every": 0, "training.max_steps": 6}
    resume(make_run, evaluated.run_dir, **off)
    with pytest.raises(ConfigError, match=r"eval\.samples: the run in"):
        resume(make_run, evaluated.run_dir, **evaluation, **{"eval.samples": 4})
    assert resume(make_run, evaluated.run_dir, **evaluation).steps == 9


def test_the_last_checkpoint_knows_its_score(make_run, evaluation, evaluated):
    resume(make_run, evaluated.run_dir, **evaluation)  # to step 9, which is not on schedule
    state = json.loads((evaluated.run_dir / "trainer_state.json").read_text())
    rows = (evaluated.run_dir / "eval.jsonl").read_text().splitlines()
    assert json.loads(rows[-1])["step"] == 9
    assert state["score"] == json.loads(rows[-1])["mean_reward"]


def test_a_longer_run_has_no_last_adapter_before_its_end(make_run):
    ctrl_c = {"reward.type": plugin(CtrlC)}
    first = train(make_run(**ctrl_c, **{"training.max_steps": 2}))
    with pytest.raises(InterruptedRunError):
        resume(make_run, first.run_dir, **ctrl_c, **{"training.max_steps": 20})
    assert not (first.run_dir / "final").exists()


def test_allowed_changes_are_reported(make_run, stopped, capsys):
    resume(make_run, stopped, **{"training.max_steps": 8, "backend.devices": "cpu"})
    shown = capsys.readouterr().out
    assert "changed: training.max_steps: 7 -> 8" in shown
    assert 'changed: backend.devices: "gpu:0" -> "cpu" (changes rounding)' in shown
    assert load_config(stopped / "config.toml").training.max_steps == 8


def test_the_seed_of_the_run_is_taken_over(make_run, stopped):
    assert resume(make_run, stopped, **{"training.seed": -1}).seed == 5
    with pytest.raises(ConfigError, match=r"training\.seed: the run in .* has 5, not 6"):
        resume(make_run, stopped, **{"training.seed": 6})


def test_adapters_elsewhere_are_found_again(make_run, whole, tmp_path):
    place = {
        "backend.adapter_path": str(tmp_path / "adapters"),
        "logging.log_dir": str(tmp_path / "mine"),
    }
    train(make_run(**place, **{"training.max_steps": 3}))
    first = train(make_run(**place, **{"training.max_steps": 5}))
    assert first.adapter == str(tmp_path / "adapters-2/final")
    summary = resume(make_run, first.run_dir)  # the path need not be said again
    assert summary.adapter == first.adapter
    shutil.copytree(tmp_path / "adapters-2/final", first.run_dir / "final")
    assert logs_of(first.run_dir) == logs_of(whole.run_dir)


def test_a_moved_run_can_be_resumed(make_run, whole, stopped, tmp_path):
    stopped.rename(tmp_path / "moved")
    resume(make_run, tmp_path / "moved")
    assert logs_of(tmp_path / "moved") == logs_of(whole.run_dir)


def test_what_is_no_run_is_refused(make_run, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"resume\.from: `.*empty` holds no run"):
        resume(make_run, tmp_path / "empty")


def test_looking_changes_nothing(make_run, stopped):
    before = {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}
    point = find_resume_point(make_run(**{"resume.from": str(stopped)}))
    assert (point.steps_done, point.rows_cut, point.inexact()) == (6, 1, [])
    assert before == {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_ends_the_run_in_one_line_and_it_can_be_resumed(make_run, whole, tmp_path):
    mine = {"logging.log_dir": str(tmp_path / "mine"), "training.keep_last": 1}
    with pytest.raises(RunError) as caught:
        train(make_run(**mine, **{"backend.backend": plugin(FullDisk)}))
    assert str(caught.value) == (
        f"{tmp_path / 'mine'}: the disk is full; make room, then resume with `retrain --resume "
        f"{tmp_path / 'mine'}` (the checkpoint after step 2 is intact)"
    )
    config = tmp_path / "mine/config.toml"
    point = find_resume_point(load_config(config, {"resume.from": str(tmp_path / "mine")}))
    assert (point.steps_done, point.damages) == (2, ())


def test_steps_without_signal_are_resumed_too(make_run, tmp_path):
    silent = {"reward.type": plugin(AlwaysRight)}
    long = train(make_run(**silent))
    short = {"training.max_steps": 4, "logging.log_dir": str(tmp_path / "short")}
    resume(make_run, train(make_run(**silent, **short)).run_dir, **silent)
    assert logs_of(tmp_path / "short") == logs_of(long.run_dir)


def test_two_processes_do_not_share_a_run(make_run, stopped):
    program = (
        "import sys; from filelock import FileLock\n"
        "with FileLock(sys.argv[1]): print(flush=True); input()"
    )
    command = [sys.executable, "-c", program, str(stopped / ".lock")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(ConfigError, match="another process is training in this directory"):
            resume(make_run, stopped)
        other.communicate(b"\n")
    assert resume(make_run, stopped).steps == 9
