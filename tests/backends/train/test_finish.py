"""How runs end: by signals, and when other programs change their directories."""

import os
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from retrain_backends.config import dump_config
from retrain_backends.errors import InterruptedRunError, RunError, TerminatedRunError
from retrain_backends.tracking.journal import read_metrics, without_times
from retrain_backends.train import train
from retrain_backends.train.checks.training_evidence import missing_evidence
from retrain_backends.types import Verdict

PROGRAM = """
import os
import shutil
import signal
from pathlib import Path

from retrain_backends.types import Verdict

class FirstSymbol:
    calls = 0

    def score(self, items):
        self.calls += 1
        if self.calls == 4:
            self.act()
        return [Verdict(float(item.completion[:1] == item.example.reference)) for item in items]

    def act(self):
        pass

class Terminated(FirstSymbol):
    def act(self):
        os.kill(os.getpid(), signal.SIGTERM)

class Unwritable(FirstSymbol):
    def act(self):
        for path in (*Path("run").rglob("*"), Path("run")):
            path.chmod(path.stat().st_mode & ~0o222)
"""

# The superuser may write everything, unless it gives up that capability.
AS_USER = ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []


class FirstSymbol:
    """1 for a completion that begins with the reference; acts once, in the fourth step."""

    calls = 0

    def score(self, items):
        self.calls += 1
        if self.calls == 4:
            self.act(Path(os.environ["RUN_OF_THE_TEST"]))
        return [Verdict(float(item.completion[:1] == item.example.reference)) for item in items]

    def act(self, run: Path) -> None:
        """Do nothing."""


class Deleted(FirstSymbol):
    def act(self, run):
        shutil.rmtree(run)


class Renamed(FirstSymbol):
    def act(self, run):
        run.rename(run.with_name("renamed"))


class TakenByAnother(FirstSymbol):
    def act(self, run):
        shutil.rmtree(run)
        run.mkdir()
        (run / "config.toml").touch()


class LostMetrics(FirstSymbol):
    def act(self, run):
        (run / "metrics.jsonl").unlink()


class EmptiedMetrics(FirstSymbol):
    def act(self, run):
        os.truncate(run / "metrics.jsonl", 0)


class EmptiedGenerations(FirstSymbol):
    def act(self, run):
        os.truncate(run / "emergence/generations.jsonl", 0)


class ReplacedSteps(FirstSymbol):
    def act(self, run):
        steps = run / "emergence/steps.jsonl"
        shutil.copy(steps, steps.with_name("copy"))
        steps.with_name("copy").replace(steps)


class Sigterm(FirstSymbol):
    def act(self, run):
        signal.raise_signal(signal.SIGTERM)


def plugin(name: type) -> str:
    return f"{__name__}:{name.__name__}"


@pytest.fixture
def make_run(make_config, tmp_path):
    def make(reward: type, **overrides):
        defaults = {"reward.type": plugin(reward), "training.max_steps": 6}
        return make_config(defaults | {"training.save_every": 2} | overrides)

    os.environ["RUN_OF_THE_TEST"] = str(tmp_path / "run")
    yield make
    del os.environ["RUN_OF_THE_TEST"]


def outcome(run: Path) -> tuple[list, bytes]:
    rows = [without_times(row) for row in read_metrics(run)]
    assert not set(missing_evidence(run)) - {"the adapter is the initial one"}
    return rows, (run / "final/policy.npy").read_bytes()


@pytest.mark.parametrize(
    ("reward", "what", "saved_in"),
    [
        (Deleted, "the directory was deleted or renamed", "run"),
        (Renamed, "the directory was deleted or renamed", "run"),
        (TakenByAnother, "the directory was deleted or renamed", "run-2"),
        (LostMetrics, "metrics.jsonl cannot be found (No such file or directory)", "run"),
        (EmptiedGenerations, "emergence/generations.jsonl was changed (it has ", "run"),
        (ReplacedSteps, "emergence/steps.jsonl was replaced", "run"),
    ],
)
@pytest.mark.parametrize("save_every", [2, 100])
def test_a_run_whose_directory_is_changed_ends_with_its_weights_saved(
    make_run, tmp_path, reward, what, saved_in, save_every
):
    often = {"training.save_every": save_every}
    with pytest.raises(RunError) as caught:
        train(make_run(reward, **often))
    place = tmp_path / saved_in
    assert caught.value.exit_code == 1
    assert str(caught.value).startswith(f"{tmp_path / 'run'}: {what}")
    assert str(caught.value).endswith(
        f" while the run was training; the state after step 4 is saved in {place}; resume with "
        f"`retrain --resume {place}`"
    )
    train(make_run(reward, **often, **{"resume.from": str(place)}))
    whole = train(make_run(FirstSymbol, **often, **{"logging.log_dir": str(tmp_path / "whole")}))
    assert outcome(place) == outcome(whole.run_dir)


def test_rows_that_cannot_be_restored_are_reported(make_run, tmp_path, capsys):
    with pytest.raises(RunError, match=r"metrics\.jsonl was changed \(it has \d+ bytes, not "):
        train(make_run(EmptiedMetrics))
    train(make_run(EmptiedMetrics, **{"resume.from": str(tmp_path / "run")}))
    assert "damaged: metrics.jsonl has 1 of 4 lines" in capsys.readouterr().out
    assert [row["step"] for row in read_metrics(tmp_path / "run")] == [3, 4, 5]


def test_adapters_elsewhere_are_saved_again(make_run, tmp_path):
    os.environ["RUN_OF_THE_TEST"] = str(tmp_path / "adapters")
    elsewhere = {"backend.adapter_path": str(tmp_path / "adapters")}
    with pytest.raises(RunError, match=r"adapters was deleted or renamed while .* step 4 is saved"):
        train(make_run(Deleted, **elsewhere))
    summary = train(make_run(Deleted, **elsewhere, **{"resume.from": str(tmp_path / "run")}))
    assert summary.adapter == str(tmp_path / "adapters/final")


def test_a_directory_that_cannot_be_made_again_is_one_line(make_run, tmp_path):
    os.environ["RUN_OF_THE_TEST"] = str(tmp_path / "deep")
    deep = {"logging.log_dir": str(tmp_path / "deep/run")}

    with pytest.raises(RunError, match="while the run was training, and it cannot be saved: ") as e:
        train(make_run(BlockedParent, **deep))
    assert "\n" not in str(e.value)
    assert e.value.exit_code == 1


class BlockedParent(FirstSymbol):
    def act(self, run):
        shutil.rmtree(run)
        run.touch()


def test_sigterm_saves_the_last_full_step_and_exits_143(make_run, tmp_path):
    with pytest.raises(TerminatedRunError, match="terminated after 3 steps; adapter saved") as ends:
        train(make_run(Sigterm))
    assert isinstance(ends.value, InterruptedRunError)
    assert ends.value.exit_code == 143
    assert len(read_metrics(tmp_path / "run")) == 3
    assert (tmp_path / "run/checkpoints/step_000003/policy.npy").is_file()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    resumed = train(make_run(Sigterm, **{"resume.from": str(tmp_path / "run")}))
    whole = train(make_run(FirstSymbol, **{"logging.log_dir": str(tmp_path / "whole")}))
    assert outcome(resumed.run_dir) == outcome(whole.run_dir)


@pytest.fixture
def start(make_run, tmp_path):
    """Start a run in a process of its own, with a class of `PROGRAM` as its reward."""
    (tmp_path / "acting.py").write_text(PROGRAM)

    def start(reward: str, *command: str) -> subprocess.CompletedProcess[str]:
        config = make_run(FirstSymbol, **{"logging.log_dir": "run"})
        (tmp_path / "run.toml").write_text(dump_config(config))
        module = command or ("-m", "retrain_backends", "run.toml")
        return subprocess.run(
            [*AS_USER, sys.executable, *module, f"--reward-type=acting:{reward}"],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip

    return start


@pytest.mark.parametrize(
    "command",
    [
        ("-m", "retrain_backends", "run.toml"),
        pytest.param(
            ("-c", "from retrain_cli.app import main; main()", "run.toml"),
            marks=pytest.mark.skipif(not find_spec("retrain_cli"), reason="needs retrain-cli"),
        ),
    ],
)
def test_a_process_exits_with_143(start, command):
    ended = start("Terminated", *command)
    assert ended.returncode == 143
    assert ended.stderr == (
        "error: terminated after 3 steps; adapter saved in run/checkpoints/step_000003; resume "
        "with `retrain --resume run`\n"
    )


needs_setpriv = pytest.mark.skipif(
    bool(AS_USER) and not shutil.which("setpriv"), reason="the superuser may write everything"
)


@needs_setpriv
def test_a_directory_that_becomes_unwritable_is_one_line(start, tmp_path):
    ended = start("Unwritable")
    assert ended.returncode == 1
    assert ended.stderr == (
        "error: run/checkpoints/.step_000004.partial cannot be accessed (Permission denied); make "
        "it accessible, then resume with `retrain --resume run` (the checkpoint after step 2 is "
        "intact)\n"
    )
    resume = ("-m", "retrain_backends", "--resume=run")
    refused = start("Unwritable", *resume)
    assert (refused.returncode, refused.stderr) == (
        2,
        "error: run: cannot be written (Permission denied); make it writable for this account\n",
    )
    for path in (tmp_path / "run", *(tmp_path / "run").rglob("*")):
        path.chmod(path.stat().st_mode | 0o200)
    resumed = start("Unwritable", *resume, "--max-steps=5")
    assert (resumed.returncode, resumed.stderr) == (0, "")


@needs_setpriv
@pytest.mark.parametrize("locked", [".", "emergence/generations.jsonl", "checkpoints"])
def test_a_part_that_cannot_be_written_is_one_line(start, tmp_path, locked):
    assert start("FirstSymbol").returncode == 0
    (tmp_path / "run" / locked).chmod(0o555)
    ended = start("FirstSymbol", "-m", "retrain_backends", "--resume=run", "--max-steps=9")
    assert ended.returncode in (1, 2)
    assert ended.stderr.startswith("error: run")
    assert "Permission denied" in ended.stderr
    assert ended.stderr.count("\n") == 1
