"""The directory of a run: a new one, or that of the run that is resumed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from retrain_backends.atomic import write_atomically
from retrain_backends.config import CONFIG_FILE, RunConfig, dump_config
from retrain_backends.errors import ConfigError
from retrain_backends.tracking.directory import claim_directory
from retrain_backends.train.storage.compatibility import configuration_digest, settings_of
from retrain_backends.train.storage.fingerprints import Fingerprints
from retrain_backends.train.storage.metadata import determinism_of
from retrain_backends.train.storage.resume_point import (
    ResumePoint,
    find_resume_point,
    run_to_resume,
)
from retrain_backends.train.storage.state_file import (
    STATE_FILE,
    SavedState,
    dump_train_state,
    versions,
    write_state,
)
from retrain_backends.train.storage.train_state import TrainState
from retrain_backends.types import Facts

_LOCK_FILE = ".lock"
_LOCK_TIMEOUT_S = 5.0  # the processes of a killed run may take a moment to end


@dataclass(frozen=True)
class RunDirectory:
    """A run's directory with the text of its `config.toml`, and the state that it starts from."""

    directory: Path
    saved: SavedState
    config_text: str


def describe_start(
    config: RunConfig, start: TrainState, fingerprints: Fingerprints, facts: Facts
) -> SavedState:
    """The saved state of a run before its first step.

    Args:
      config: of the run.
      start: the state before the first step.
      fingerprints: of its questions and model.
      facts: of its backend.
    """
    settings = settings_of(config)
    determinism, reason = determinism_of(config.reward.type, facts)
    return SavedState(
        state=dump_train_state(start),
        fingerprints=fingerprints,
        determinism=determinism,
        determinism_reason=reason,
        versions=versions(),
        configuration_hash=configuration_digest(settings),
        configuration=settings,
    )


@contextmanager
def claim_run_directory(config: RunConfig, initial: SavedState) -> Iterator[RunDirectory]:
    """Create the directory of a new run, locked until the block ends."""
    text = dump_config(config)
    directory = claim_directory(Path(config.logging.log_dir), text, setting="logging.log_dir")
    with _locked(directory):
        yield _initialize(directory, config, initial)


@contextmanager
def earlier_run(config: RunConfig) -> Iterator[ResumePoint | None]:
    """The resume point of the run in `[resume] from`, locked until the block ends.

    None if `[resume] from` is empty. No other process can change the run in the meantime.

    Raises:
      ConfigError: there is no run, or another process is training in its directory.
      RunError: none of its checkpoints is intact.
    """
    if not config.resume.from_:
        yield None
        return
    with _locked(run_to_resume(config)):
        yield find_resume_point(config)


def reopen_run_directory(point: ResumePoint, initial: SavedState) -> RunDirectory:
    """Reopen the directory of a resumed run, rewound to its resume point.

    Args:
      point: where the run is resumed.
      initial: result of `describe_start` for the current configuration.

    Raises:
      ConfigError: the questions or the model have changed.
    """
    directory, saved = point.directory, point.saved
    problems = saved.fingerprints.differences(initial.fingerprints) if saved else ()
    if lines := [
        f"{problem} (the run in {directory}); restore the original, or start a new run by leaving "
        "out --resume"
        for problem in problems
    ]:
        raise ConfigError(*lines)
    config = point.config.model_copy(update={"resume": type(point.config.resume)()})
    text = dump_config(config)
    write_atomically(directory / CONFIG_FILE, text)
    saved = point.rewind()
    if saved is None:
        return _initialize(directory, config, initial)
    current = {name: getattr(initial, name) for name in _OF_THE_PROCESS}
    current["fingerprints"] = saved.fingerprints.renewed(initial.fingerprints)
    return RunDirectory(directory, saved.model_copy(update=current), text)


# Fields that describe the process which writes a checkpoint.
_OF_THE_PROCESS = (
    "determinism",
    "determinism_reason",
    "versions",
    "configuration_hash",
    "configuration",
)


def _initialize(directory: Path, config: RunConfig, initial: SavedState) -> RunDirectory:
    text = dump_config(config)
    if config.backend.adapter_path:
        path = Path(config.backend.adapter_path)
        adapters = claim_directory(path, text, setting="backend.adapter_path")
        initial = initial.model_copy(update={"adapters": str(adapters.resolve())})
    write_state(directory / STATE_FILE, initial)
    return RunDirectory(directory, initial, text)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    lock = FileLock(directory / _LOCK_FILE, timeout=_LOCK_TIMEOUT_S)
    try:
        lock.acquire()
    except Timeout:
        raise ConfigError(
            f"{directory}: another process is training in this directory; wait for it to end"
        ) from None
    except OSError as error:
        raise ConfigError(
            f"{directory}: cannot be written ({error.strerror}); make it writable for this account"
        ) from error
    try:
        yield
    finally:
        lock.release()
