"""Where a run is resumed: from which checkpoint, and with which settings."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from retrain_backends.config import CONFIG_FILE, RunConfig, with_drawn_seed
from retrain_backends.errors import ConfigError
from retrain_backends.tracking.journal import EVALUATIONS_FILE
from retrain_backends.tracking.log_check import rewind_logs, steps_logged
from retrain_backends.train.storage.checkpoint import discard_results
from retrain_backends.train.storage.checkpoint_search import find_checkpoint
from retrain_backends.train.storage.compatibility import Change, changes_between, settings_of
from retrain_backends.train.storage.metadata import metadata_damage
from retrain_backends.train.storage.state_file import (
    CHECKPOINT_STATE_FILE,
    STATE_FILE,
    SavedState,
    versions,
    write_state,
)


@dataclass(frozen=True)
class ResumePoint:
    """The point from which an earlier run is resumed.

    `saved` is None if the run was stopped before its first state was written; it then starts from
    the beginning. `config` is the configuration of the resumed run. `damages` are those of the
    checkpoints, and why newer ones cannot be used; `damaged_logs` are those of the logs, by name.
    `changes` are the settings that differ, `updates` the versions that differ, and `rows_cut`
    counts the logged steps that will be repeated.
    """

    directory: Path
    saved: SavedState | None
    config: RunConfig
    damages: tuple[str, ...]
    damaged_logs: Mapping[str, str]
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
        reasons = [*(self.saved.damaged if self.saved else ()), *self.damaged_logs.values()]
        reasons += [f"{change} changes rounding" for change in self.changes if change.inexact]
        reasons += [f"{update} may change rounding" for update in self.updates]
        if self.saved and self.saved.determinism != "bitwise":
            reasons.append(f"{self.saved.determinism}: {self.saved.determinism_reason}")
        return reasons

    def notes(self) -> Iterator[str]:
        """Notes for the user before the run is resumed, one line each."""
        yield from (f"damaged: {damage}" for damage in self.all_damages())
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

    def all_damages(self) -> Iterator[str]:
        """The damages of checkpoints and logs, and those of logs from earlier resumes."""
        yield from self.damages
        yield from self.damaged_logs.values()
        if self.saved:
            yield from (f"{damage} (found before)" for damage in self.saved.damaged)

    def rewind(self) -> SavedState | None:
        """Make this the run's newest checkpoint, and cut what was logged after it.

        If a finished run is extended, its final adapter and learning curve are deleted. Returns the
        state, with the damage of the logs and their present marks.
        """
        logs = rewind_logs(
            self.directory,
            self.saved.logs if self.saved else {},
            self.damaged_logs,
            self.steps_done,
        )
        if self.saved is None:
            return None
        damaged = [*self.saved.damaged, *self.damaged_logs.values()]
        saved = self.saved.model_copy(update={"logs": logs, "damaged": damaged})
        write_state(self.directory / STATE_FILE, saved)
        if saved.checkpoint:
            write_state(saved.directory_in(self.directory) / CHECKPOINT_STATE_FILE, saved)
        if self.config.training.max_steps > self.steps_done:
            discard_results(self.directory, saved.adapters_in(self.directory))
        return saved


def find_resume_point(config: RunConfig) -> ResumePoint:
    """Find where the run in `[resume] from` can be resumed; changes nothing.

    Raises:
      ConfigError: there is no run.
      RunError: none of its checkpoints is intact.
    """
    directory = run_to_resume(config)
    found = find_checkpoint(directory)
    saved = found.saved
    config = _in_place(config, directory, saved)
    now = versions()
    return ResumePoint(
        directory=directory,
        saved=saved,
        config=config,
        damages=(*found.damages, *_damage_of_metadata(directory, saved)),
        damaged_logs=found.damaged_logs,
        changes=_changes(saved, config) if saved else (),
        updates=tuple(
            f"{name} {version} -> {now.get(name, 'none')}"
            for name, version in (saved.versions.items() if saved else ())
            if now.get(name) != version
        ),
        rows_cut=max(0, steps_logged(directory) - (saved.steps_done if saved else 0)),
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


def _damage_of_metadata(directory: Path, saved: SavedState | None) -> Iterator[str]:
    damage = metadata_damage(directory) if saved and saved.steps_done else ""
    if damage:
        yield damage


def _changes(saved: SavedState, config: RunConfig) -> tuple[Change, ...]:
    evaluated = bool(saved.logs.get(EVALUATIONS_FILE))
    return tuple(changes_between(saved.configuration, settings_of(config), evaluated=evaluated))


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
