"""Finds the newest checkpoint of a run that is intact and whose steps are logged."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from retrain_backends.errors import RunError
from retrain_backends.tracking.journal import METRICS_FILE
from retrain_backends.tracking.log_check import covered_steps, damage_of
from retrain_backends.train.storage.checkpoint import step_directories, step_of
from retrain_backends.train.storage.state_file import (
    CHECKPOINT_STATE_FILE,
    STATE_FILE,
    DamagedError,
    SavedState,
    read_state,
)


@dataclass(frozen=True)
class FoundCheckpoint:
    """The checkpoint to resume from.

    `saved` is None if no state has been written yet. `damages` are those of all checkpoints, and
    why newer ones cannot be used; `damaged_logs` says by name how logs differ from what was
    written before the checkpoint.
    """

    saved: SavedState | None = None
    damages: tuple[str, ...] = ()
    damaged_logs: Mapping[str, str] = field(default_factory=dict)


def find_checkpoint(run_dir: Path) -> FoundCheckpoint:
    """Find the newest intact checkpoint whose steps are all in `metrics.jsonl`.

    If there is none, rows were lost that no checkpoint can repeat, and it is the newest intact one.
    The files of every checkpoint are read.

    Raises:
      RunError: no checkpoint is intact.
    """
    if not (run_dir / STATE_FILE).exists() and not step_directories(run_dir):
        return FoundCheckpoint()
    intact, damages = _intact_states(run_dir)
    if not intact:
        raise RunError(
            f"{run_dir}: there is no intact checkpoint to resume from ({'; '.join(damages)}); "
            "start a new run by leaving out --resume"
        )
    chosen, lacking = _newest_logged(run_dir, intact)
    damaged = {name: damage_of(run_dir, name, marks) for name, marks in chosen.logs.items()}
    return FoundCheckpoint(
        chosen,
        (*damages, *lacking),
        {name: damage for name, damage in damaged.items() if damage},
    )


def _intact_states(run_dir: Path) -> tuple[list[SavedState], list[str]]:
    """The states whose checkpoints are intact, newest first, and the damage of the others."""
    intact, damages = [], []
    for path in _state_files(run_dir):
        try:
            saved = read_state(path)
            if path.name == CHECKPOINT_STATE_FILE and saved.checkpoint != path.parent.name:
                raise DamagedError(f"{path.name} is of another checkpoint, {saved.checkpoint}")
            if not intact or intact[-1].checkpoint != saved.checkpoint:
                saved.check(run_dir)
                intact.append(saved)
        except DamagedError as error:
            damages.append(f"{_checkpoint_name(path, run_dir)}: {error}")
    return intact, list(dict.fromkeys(damages))


def _newest_logged(run_dir: Path, intact: list[SavedState]) -> tuple[SavedState, list[str]]:
    """The state to resume from, and why newer ones are not."""
    covered, lacking = covered_steps(run_dir), []
    for saved in intact:
        damage = damage_of(run_dir, METRICS_FILE, saved.logs.get(METRICS_FILE, ()))
        if not damage or saved.steps_done <= covered:
            return saved, lacking
        lacking.append(f"{saved.checkpoint}: {damage}")
    return intact[0], []


def _state_files(run_dir: Path) -> Iterator[Path]:
    """State files, newest first: the pointer, then those of its checkpoint and older ones."""
    yield run_dir / STATE_FILE
    try:
        pointer = read_state(run_dir / STATE_FILE)
    except DamagedError:
        directories = step_directories(run_dir)
    else:
        directories = [
            directory
            for directory in step_directories(pointer.adapters_in(run_dir))
            if step_of(directory) <= pointer.steps_done
        ]
    yield from (directory / CHECKPOINT_STATE_FILE for directory in directories)


def _checkpoint_name(path: Path, run_dir: Path) -> str:
    if path != run_dir / STATE_FILE:
        return path.parent.name
    try:
        return read_state(path).checkpoint
    except DamagedError:
        return "the newest state"
