"""Where a run is resumed: from which checkpoint, and with which settings."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from retrain_backends.config import CONFIG_FILE, RunConfig, with_drawn_seed
from retrain_backends.errors import ConfigError, RunError
from retrain_backends.tracking.cut import cut_logs, rows_after
from retrain_backends.tracking.journal import EVALUATIONS_FILE
from retrain_backends.train.storage.checkpoint import discard_results, step_directories, step_of
from retrain_backends.train.storage.compatibility import Change, changes_between, settings_of
from retrain_backends.train.storage.state_file import (
    CHECKPOINT_STATE_FILE,
    STATE_FILE,
    DamagedError,
    SavedState,
    read_state,
    versions,
    write_state,
)


@dataclass(frozen=True)
class ResumePoint:
    """The point from which an earlier run is resumed.

    `saved` is None if the run was stopped before its first state was written; it then starts from
    the beginning. `config` is the configuration of the resumed run. `damages` are the reasons why
    newer checkpoints cannot be used, `changes` the settings that differ, `updates` the versions
    that differ, and `rows_cut` counts the logged steps that will be repeated.
    """

    directory: Path
    saved: SavedState | None
    config: RunConfig
    damages: tuple[str, ...]
    changes: tuple[Change, ...]
    updates: tuple[str, ...]
    rows_cut: int

    @property
    def steps_done(self) -> int:
        """Steps that need not be repeated."""
        return self.saved.steps_done if self.saved else 0

    def refuse(self) -> None:
        """Raise ConfigError with a line for every setting that may not change."""
        problems = [
            f"{change.setting}: the run in {self.directory} has {change.before}, not {change.now}; "
            "set it back, or start a new run by leaving out --resume"
            for change in self.changes
            if change.effect == "refused"
        ]
        if self.config.training.max_steps < self.steps_done:
            problems.append(
                f"training.max_steps: {self.config.training.max_steps}, but the run in "
                f"{self.directory} has done {self.steps_done} steps already; set a larger number"
            )
        if problems:
            raise ConfigError(*problems)

    def inexact(self) -> list[str]:
        """Why the numbers may differ from those of an uninterrupted run; empty if they do not."""
        reasons = [f"{change} changes rounding" for change in self.changes if change.inexact]
        reasons += [f"{update} may change rounding" for update in self.updates]
        if self.saved and self.saved.determinism != "bitwise":
            reasons.append(f"{self.saved.determinism}: {self.saved.determinism_reason}")
        return reasons

    def notes(self) -> Iterator[str]:
        """Notes for the user before the run is resumed, one line each."""
        for damage in self.damages:
            yield f"damaged: {damage}"
        if self.saved and self.saved.checkpoint:
            yield f"resuming after step {self.steps_done}, from {self.saved.checkpoint}"
        else:
            yield "there is no checkpoint yet: starting with the first step"
        if self.rows_cut:
            yield f"repeating steps that were logged after the checkpoint: {self.rows_cut}"
        for change in self.changes:
            yield f"changed: {change}" + (" (changes rounding)" if change.inexact else "")
        for update in self.updates:
            yield f"changed: {update} (may change rounding)"

    def rewind(self) -> None:
        """Make this the run's newest checkpoint, and cut what was logged after it.

        If a finished run is extended, its final adapter and learning curve are deleted.
        """
        if self.saved:
            write_state(self.directory / STATE_FILE, self.saved)
            if self.config.training.max_steps > self.steps_done:
                discard_results(self.directory, self.saved.adapters_in(self.directory))
        cut_logs(self.directory, self.saved.logs if self.saved else {})


def find_resume_point(config: RunConfig) -> ResumePoint:
    """Find where the run in `[resume] from` can be resumed; changes nothing.

    Raises:
      ConfigError: there is no run.
      RunError: none of its checkpoints is intact.
    """
    directory = run_to_resume(config)
    saved, damages = _newest_intact(directory)
    config = _in_place(config, directory, saved)
    now = versions()
    return ResumePoint(
        directory=directory,
        saved=saved,
        config=config,
        damages=tuple(damages),
        changes=_changes(saved, config) if saved else (),
        updates=tuple(
            f"{name} {version} -> {now.get(name, 'none')}"
            for name, version in (saved.versions.items() if saved else ())
            if now.get(name) != version
        ),
        rows_cut=rows_after(directory, saved.logs if saved else {}),
    )


def run_to_resume(config: RunConfig) -> Path:
    """The directory that `[resume] from` names.

    Raises:
      ConfigError: there is no run.
    """
    directory = Path(config.resume.from_)
    if not (directory / CONFIG_FILE).is_file():
        raise ConfigError(
            f"resume.from: `{directory}` holds no run (it has no {CONFIG_FILE}); name the "
            "directory that the run printed as `logs in`"
        )
    return directory


def _newest_intact(run_dir: Path) -> tuple[SavedState | None, list[str]]:
    if not (run_dir / STATE_FILE).exists() and not step_directories(run_dir):
        return None, []
    damages: list[str] = []
    for path in _candidates(run_dir):
        try:
            saved = read_state(path)
            saved.check(run_dir)
        except DamagedError as error:
            damages.append(f"{_checkpoint_name(path, run_dir)}: {error}")
            continue
        return saved, damages
    raise RunError(
        f"{run_dir}: there is no intact checkpoint to resume from ({'; '.join(damages)}); start a "
        "new run by leaving out --resume"
    )


def _changes(saved: SavedState, config: RunConfig) -> tuple[Change, ...]:
    evaluated = bool(saved.logs.get(EVALUATIONS_FILE))
    return tuple(changes_between(saved.configuration, settings_of(config), evaluated=evaluated))


def _candidates(run_dir: Path) -> Iterator[Path]:
    """State files, newest first: the pointer, then those of the checkpoints before it."""
    yield run_dir / STATE_FILE
    try:
        pointer = read_state(run_dir / STATE_FILE)
    except DamagedError:
        directories = step_directories(run_dir)
    else:
        directories = [
            directory
            for directory in step_directories(pointer.adapters_in(run_dir))
            if step_of(directory) < pointer.steps_done
        ]
    yield from (directory / CHECKPOINT_STATE_FILE for directory in directories)


def _checkpoint_name(path: Path, run_dir: Path) -> str:
    if path != run_dir / STATE_FILE:
        return path.parent.name
    try:
        return read_state(path).checkpoint
    except DamagedError:
        return "the newest state"


def _in_place(config: RunConfig, directory: Path, saved: SavedState | None) -> RunConfig:
    """The configuration with the run's own directories, and its seed unless one is set."""
    settings = saved.configuration if saved else {}
    adapter_path = settings.get("backend.adapter_path", config.backend.adapter_path)
    seed = settings.get("training.seed", config.training.seed)
    training = config.training
    if training.seed < 0:
        training = training.model_copy(update={"seed": seed})
    return with_drawn_seed(
        config.model_copy(
            update={
                "logging": config.logging.model_copy(update={"log_dir": str(directory)}),
                "backend": config.backend.model_copy(update={"adapter_path": adapter_path}),
                "training": training,
            }
        )
    )
