"""The directory in which a run lives: a new one, or that of the run that is gone on with."""

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
_PATIENCE_S = 5.0  # a killed run's processes may take a moment to go


@dataclass(frozen=True)
class RunDirectory:
    """A run's directory, and the state that the run begins or goes on with."""

    directory: Path
    saved: SavedState


def describe_start(
    config: RunConfig, start: TrainState, fingerprints: Fingerprints, facts: Facts
) -> SavedState:
    """What a run's checkpoints say about it, with the state before its first step.

    Args:
      config: of the run.
      start: the state before the first step.
      fingerprints: what it works on.
      facts: what the backend says about itself.
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
def claim_run_directory(config: RunConfig, begun: SavedState) -> Iterator[RunDirectory]:
    """A directory for a new run, which is its own until the block ends."""
    text = dump_config(config)
    directory = claim_directory(Path(config.logging.log_dir), text, setting="logging.log_dir")
    with _sole_owner(directory):
        yield _begin(directory, config, begun)


@contextmanager
def earlier_run(config: RunConfig) -> Iterator[ResumePoint | None]:
    """Where the run goes on that `[resume] from` names, and which is this process's meanwhile.

    None when it names none. What has been read here stays true: no other process trains there.

    Raises:
      ConfigError: there is no run, or another process is at work on it.
      RunError: none of its checkpoints is intact.
    """
    if not config.resume.from_:
        yield None
        return
    with _sole_owner(run_to_resume(config)):
        yield find_resume_point(config)


def reopen_run_directory(point: ResumePoint, begun: SavedState) -> RunDirectory:
    """The directory of the run to go on with, set back to where it goes on.

    Args:
      point: where it goes on.
      begun: what `describe_start` says about the run as it is now.

    Raises:
      ConfigError: questions or model are not those of the run.
    """
    directory, saved = point.directory, point.saved
    problems = saved.fingerprints.differences(begun.fingerprints) if saved else ()
    if lines := [
        f"{problem} (the run in {directory}); put it back, or start a new run by leaving out "
        "--resume"
        for problem in problems
    ]:
        raise ConfigError(*lines)
    config = point.config.model_copy(update={"resume": type(point.config.resume)()})
    write_atomically(directory / CONFIG_FILE, dump_config(config))
    point.rewind()
    if saved is None:
        return _begin(directory, point.config, begun)
    now = {name: getattr(begun, name) for name in _OF_THE_PROCESS}
    now["fingerprints"] = saved.fingerprints.renewed(begun.fingerprints)
    return RunDirectory(directory, saved.model_copy(update=now))


# What a later checkpoint says of the process that wrote it, and not of the one before.
_OF_THE_PROCESS = (
    "determinism",
    "determinism_reason",
    "versions",
    "configuration_hash",
    "configuration",
)


def _begin(directory: Path, config: RunConfig, begun: SavedState) -> RunDirectory:
    if config.backend.adapter_path:
        path = Path(config.backend.adapter_path)
        own = claim_directory(path, dump_config(config), setting="backend.adapter_path")
        begun = begun.model_copy(update={"adapters": str(own.resolve())})
    write_state(directory / STATE_FILE, begun)
    return RunDirectory(directory, begun)


@contextmanager
def _sole_owner(directory: Path) -> Iterator[None]:
    lock = FileLock(directory / _LOCK_FILE, timeout=_PATIENCE_S)
    try:
        lock.acquire()
    except Timeout:
        raise ConfigError(
            f"{directory}: another process is training in this directory; wait for it to end"
        ) from None
    try:
        yield
    finally:
        lock.release()
