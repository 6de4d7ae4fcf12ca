"""Proves that a run resumes exactly: trains some steps twice, once killed and resumed."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from retrain_backends.config import CONFIG_FILE, dump_config, load_config
from retrain_backends.errors import ConfigError, RunError
from retrain_backends.tracking.journal import JOURNAL_FILES, read_rows, to_json, without_times
from retrain_backends.tracking.log_check import rewind_logs, steps_logged
from retrain_backends.train.checks.training_evidence import missing_evidence
from retrain_backends.train.storage.durable_writes import digests_of
from retrain_backends.train.storage.metadata import text_digest
from retrain_backends.train.storage.resume_point import ResumePoint, find_resume_point
from retrain_backends.train.storage.state_file import CHECKPOINT_STATE_FILE, STATE_FILE, write_state

_POLL_INTERVAL_S = 0.002


@dataclass(frozen=True)
class Proof:
    """Digests of the logs and weights of two runs of the same steps.

    `killed_after` is the number of steps that the second run had logged when it was killed, and
    `weaknesses` are the reasons why the digests would be equal even if an update were lost.
    """

    undisturbed: dict[str, str]
    killed: dict[str, str]
    killed_after: int
    weaknesses: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether all digests are equal, of steps that have trained."""
        return self.undisturbed == self.killed and not self.weaknesses


def prove_resume(run_dir: Path, steps: int, say: Callable[[str], object]) -> Proof:
    """Train two copies of a run, kill one with SIGKILL, resume it, and compare.

    The copies start from the newest checkpoint, in a temporary directory, each in its own process.
    The run itself is not changed.

    Args:
      run_dir: the run's directory.
      steps: the number of steps, at least 2.
      say: called with each line of the report.

    Raises:
      ConfigError: fewer than 2 steps, or no run that can be resumed.
      RunError: a copy failed.
    """
    if steps < 2:
        raise ConfigError(f"--prove: {steps}; use at least 2 steps, one of them before the kill")
    config = load_config(run_dir / CONFIG_FILE, {"resume.from": str(run_dir)})
    point = find_resume_point(config)
    point.refuse()
    with TemporaryDirectory(prefix="retrain-prove-") as directory:
        first, second = (_copy(point, Path(directory) / name) for name in ("first", "second"))
        say(f"first: {steps} steps from step {point.steps_done} on, uninterrupted")
        _finish(_start(first, point, steps), first)
        say("second: the same steps, to be killed halfway")
        killed_after = _kill_in_the_middle(_start(second, point, steps), second, point, steps)
        say(f"second: killed after step {killed_after}; resumed")
        _finish(_start(second, point, steps), second)
        weaknesses = tuple(missing_evidence(first, point.steps_done))
        return Proof(digests_of_run(first), digests_of_run(second), killed_after, weaknesses)


def digests_of_run(run_dir: Path) -> dict[str, str]:
    """SHA-256 of each log without its times, and of the weights in `final`."""
    logs = {
        name: text_digest(to_json(without_times(row)) for row in read_rows(run_dir / name))
        for name in JOURNAL_FILES
        if (run_dir / name).exists()
    }
    final = digests_of(run_dir / "final")
    weights = {f"final/{name}": digest for name, digest in final.items() if name[-5:] != ".json"}
    return logs | weights


def _copy(point: ResumePoint, target: Path) -> Path:
    """Copy a run so that it can be resumed at the same point, without trackers."""
    target.mkdir()
    backend = point.config.backend.model_copy(update={"adapter_path": ""})
    logging = point.config.logging.model_copy(update={"trackers": (), "wandb_project": ""})
    config = point.config.model_copy(update={"backend": backend, "logging": logging})
    (target / CONFIG_FILE).write_text(dump_config(config), encoding="utf-8")
    if point.saved is None:
        return target
    for name in point.saved.logs:
        if (point.directory / name).is_file():
            (target / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(point.directory / name, target / name)
    settings = {**point.saved.configuration, "backend.adapter_path": ""}
    logs = rewind_logs(target, point.saved.logs, point.damaged_logs, point.steps_done)
    saved = point.saved.model_copy(
        update={"adapters": ".", "configuration": settings, "logs": logs}
    )
    if saved.checkpoint:
        shutil.copytree(point.saved.directory_in(point.directory), saved.directory_in(target))
        write_state(saved.directory_in(target) / CHECKPOINT_STATE_FILE, saved)
    write_state(target / STATE_FILE, saved)
    return target


def _start(run_dir: Path, point: ResumePoint, steps: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "retrain_backends", str(run_dir / CONFIG_FILE)]
    flags = {
        "resume": str(run_dir),
        "max-steps": str(point.steps_done + steps),
        "save-every": "2" if steps > 3 else "1",  # so that the kill usually loses a logged step
    }
    command += [f"--{flag}={value}" for flag, value in flags.items()]
    with (run_dir / "output.txt").open("ab") as output:
        return subprocess.Popen(command, stdout=output, stderr=output)


def _finish(process: subprocess.Popen[bytes], run_dir: Path) -> None:
    with process:
        code = process.wait()
    if code:
        lines = (run_dir / "output.txt").read_text(errors="replace").split("\n")
        last_line = next((line for line in reversed(lines) if line.strip()), "no output")
        raise RunError(f"--prove: the copy of the run ended with exit code {code}: {last_line}")


def _kill_in_the_middle(
    process: subprocess.Popen[bytes], run_dir: Path, point: ResumePoint, steps: int
) -> int:
    """Kill the process once half of the steps are logged; returns the number of logged steps."""
    enough = point.steps_done + steps // 2
    with process:
        while process.poll() is None and steps_logged(run_dir) < enough:
            time.sleep(_POLL_INTERVAL_S)
        process.kill()
    if process.returncode >= 0:  # it was not killed
        _finish(process, run_dir)
        raise RunError("--prove: the run ended before it could be killed; use more steps")
    return steps_logged(run_dir)
