"""Writes and prunes checkpoints.

checkpoints/step_000020/    the adapter, as a PEFT directory
    trainer/                the state of the trainer, for an exact resume
    state.json              counters, data cursor, digests, lengths of the logs, configuration
final/                      the adapter after the last step
trainer_state.json          the newest state.json; written last, so its checkpoint is complete
"""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from retrain_backends.config import TrainingConfig
from retrain_backends.errors import RunError
from retrain_backends.protocols import Trainer
from retrain_backends.tokenizer import copy_tokenizer
from retrain_backends.tracking.directory import claim_directory
from retrain_backends.tracking.journal import JOURNAL_FILES, Journal
from retrain_backends.tracking.log_digests import Mark, with_mark
from retrain_backends.train.storage.durable_writes import digests_of, new_directory, remove, size_of
from retrain_backends.train.storage.state_file import (
    CHECKPOINT_STATE_FILE,
    STATE_FILE,
    TRAINER_DIR,
    DamagedError,
    SavedState,
    dump_train_state,
    read_state,
    write_state,
)
from retrain_backends.train.storage.train_state import TrainState

FINAL_DIR = "final"
CURVE_FILE = "learning_curve.png"
_NAME = re.compile(r"step_(\d{6,})")


class Checkpoints:
    """Saves checkpoints from which the run can be resumed, and deletes old ones.

    Args:
      trainer: its state and adapter are saved.
      run_dir: the run's directory, with its logs.
      saved: the state from which the run starts or is resumed.
      training: `save_every`, `keep_last` and `keep_best`.
      journal: the logs of the run.
    """

    def __init__(
        self,
        trainer: Trainer,
        run_dir: Path,
        saved: SavedState,
        training: TrainingConfig,
        journal: Journal,
    ) -> None:
        self._trainer = trainer
        self._run_dir = run_dir
        self._saved = saved
        self._training = training
        self._journal = journal
        self._adapters = saved.adapters_in(run_dir)

    def save_if_due(self, state: TrainState, score: float | None = None) -> None:
        """Save after every `save_every` steps, and whenever the score is the best so far.

        Args:
          state: after the last logged step.
          score: result of the evaluation, higher is better; None without an evaluation.
        """
        on_schedule = state.steps_done % self._training.save_every == 0
        if state.steps_done and (on_schedule or self._is_best(score)):
            self.save(state, score)

    def save(self, state: TrainState, score: float | None = None) -> str:
        """Save `checkpoints/step_<steps_done>` if it is not saved yet; return the adapter's path.

        Raises:
          RunError: the disk has not enough space; or the adapter could not be exported, in which
            case the checkpoint is saved without it.
        """
        failure = None
        if self._saved.steps_done != state.steps_done or not self._saved.checkpoint:
            saved, failure = self._write(state, score)
            self._commit(saved)
        elif score is not None and self._saved.score is None:
            update = {"score": score, "logs": self._flushed_logs()}
            saved = self._saved.model_copy(update=update)
            write_state(saved.directory_in(self._run_dir) / CHECKPOINT_STATE_FILE, saved)
            self._commit(saved)
        self._prune()  # also after a resume: a kill may have come before
        if failure:
            raise failure
        return self._saved.adapter or str(self._saved.directory_in(self._run_dir))

    def save_final(self, tokenizer: Path) -> str:
        """Save the adapter as `final` and return its path; a service returns a path of its own.

        The files of the tokenizer, which are in `tokenizer`, are copied beside it.
        """
        target = self._adapters / FINAL_DIR
        with new_directory(target) as partial:
            path = self._trainer.export_adapter(partial)
            if path == str(partial):
                copy_tokenizer(tokenizer, partial)
        if path == str(partial):
            return str(target)
        if not any(target.iterdir()):
            target.rmdir()
        self._commit(self._saved.model_copy(update={"final": path}))
        return path

    @property
    def directory(self) -> Path:
        """The directory that holds `checkpoints/` and `final/`."""
        return self._adapters

    def lost(self) -> str:
        """What has happened to the directory of the adapters; empty if nothing."""
        return "" if self._adapters.is_dir() else f"{self._adapters} was deleted or renamed"

    def save_elsewhere(self, config_text: str, state: TrainState, score: float | None) -> Path:
        """Save in the run's directory after another program has changed it; return the directory.

        If it is gone, it is made again, or one with a suffix if another run has taken its name.

        Args:
          config_text: content of `config.toml`.
          state: after the last logged step.
          score: of its evaluation.

        Raises:
          ConfigError: the directory cannot be made.
        """
        directory = self._run_dir
        if not self._journal.is_in_place():
            directory = claim_directory(directory, config_text, setting="logging.log_dir")
        self._journal.restore(directory)
        saved = self._saved.model_copy(update={"checkpoint": ""})
        other = Checkpoints(self._trainer, directory, saved, self._training, self._journal)
        other.save(state, score)
        return directory

    def full_disk_message(self) -> str:
        """The error message when the disk is full."""
        return f"{self._run_dir}: the disk is full; make room, then {self.how_to_resume()}"

    def how_to_resume(self) -> str:
        """How to resume the run, and from which checkpoint."""
        saved = self._saved
        intact = (
            f"the checkpoint after step {saved.steps_done} is intact"
            if saved.checkpoint
            else "there was no checkpoint yet"
        )
        return f"resume with `retrain --resume {self._run_dir}` ({intact})"

    def _write(self, state: TrainState, score: float | None) -> tuple[SavedState, RunError | None]:
        """Write a checkpoint; also returns the error if its adapter could not be exported."""
        name = f"step_{state.steps_done:06d}"
        target = self._adapters / "checkpoints" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        self._check_free_space(target.parent)
        with new_directory(target) as partial:
            (partial / TRAINER_DIR).mkdir()
            saved_trainer = self._trainer.save(partial / TRAINER_DIR)
            adapter, failure = str(partial), None
            # A border: a service may fail to export the adapter that it has just saved.
            try:
                adapter = self._trainer.export_adapter(partial)
            except RunError as error:
                failure = error
            saved = self._saved.model_copy(
                update={
                    "state": dump_train_state(state),
                    "checkpoint": name,
                    "adapter": "" if adapter == str(partial) else adapter,
                    "final": "",
                    "remote": saved_trainer.remote,
                    "score": score,
                    "bytes": size_of(partial),
                    "files": digests_of(partial),
                    "logs": self._flushed_logs(),
                }
            )
            write_state(partial / CHECKPOINT_STATE_FILE, saved)
        return saved, failure

    def _commit(self, saved: SavedState) -> None:
        write_state(self._run_dir / STATE_FILE, saved)
        self._saved = saved

    def _flushed_logs(self) -> dict[str, list[Mark]]:
        """The marks of the last checkpoint, and one at the end of each log."""
        logs = dict(self._saved.logs)
        for name, mark in self._journal.flush().items():
            logs[name] = with_mark(logs.get(name, []) if name in JOURNAL_FILES else [], mark)
        return logs

    def _check_free_space(self, directory: Path) -> None:
        """Require as much space as the last checkpoint took; the first one is not checked."""
        free = shutil.disk_usage(directory).free
        if free < self._saved.bytes:
            raise RunError(
                f"{directory}: the next checkpoint needs {_mb(self._saved.bytes)}, and "
                f"{_mb(free)} is free; make room, then {self.how_to_resume()}"
            )

    def _is_best(self, score: float | None) -> bool:
        if score is None or not self._training.keep_best:
            return False
        return all(score > other for _, other in self._scores())

    def _scores(self) -> Iterator[tuple[Path, float]]:
        """The checkpoints that have an evaluation, with its score."""
        for directory in self._of_this_run():
            try:
                score = read_state(directory / CHECKPOINT_STATE_FILE).score
            except DamagedError:
                continue
            if score is not None:
                yield directory, score

    def _prune(self) -> None:
        """Delete all checkpoints but the last few and the best one (of equals, the earliest).

        Also deletes leftovers of killed processes, and checkpoints after the point of resuming.
        """
        kept = set(self._of_this_run()[: self._training.keep_last])
        if self._training.keep_best and (scores := dict(self._scores())):
            kept.add(min(scores, key=lambda path: (-scores[path], step_of(path))))
        for directory in step_directories(self._adapters):
            if directory not in kept:
                remove(directory)
        for directory in (self._adapters / "checkpoints").glob(".step_*"):
            shutil.rmtree(directory)

    def _of_this_run(self) -> list[Path]:
        """The checkpoints up to the last one saved, the newest first."""
        newest = self._saved.steps_done
        return [path for path in step_directories(self._adapters) if step_of(path) <= newest]


def discard_results(run_dir: Path, adapters: Path) -> None:
    """Delete the final adapter and the learning curve of a finished run, not its checkpoints."""
    if (adapters / FINAL_DIR).exists():
        remove(adapters / FINAL_DIR)
    (run_dir / CURVE_FILE).unlink(missing_ok=True)


def step_directories(adapters: Path) -> list[Path]:
    """The checkpoints of a run, the newest first."""
    paths = (adapters / "checkpoints").glob("step_*")
    directories = (path for path in paths if _NAME.fullmatch(path.name) and path.is_dir())
    return sorted(directories, key=step_of, reverse=True)


def step_of(directory: Path) -> int:
    """The number of steps before a checkpoint, from its name."""
    return int(directory.name.removeprefix("step_"))


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
