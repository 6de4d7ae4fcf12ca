"""The state file of a run: counters, digests, lengths of the logs, and the configuration."""

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import machine, python_version
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, JsonValue, TypeAdapter

from retrain_backends.atomic import write_atomically
from retrain_backends.tracking.log_digests import Mark
from retrain_backends.train.storage.durable_writes import digests_of
from retrain_backends.train.storage.fingerprints import Fingerprints
from retrain_backends.train.storage.train_state import TrainState
from retrain_backends.types import CheckpointRef, Determinism, Fidelity, Restored

STATE_FILE = "trainer_state.json"  # in the run directory: the checkpoint to resume from
CHECKPOINT_STATE_FILE = "state.json"  # the same, in the directory of the checkpoint
TRAINER_DIR = "trainer"  # in a checkpoint: the files of `Trainer.save`
_PACKAGES = (
    *("retrain-backends", "retrain-core", "numpy", "transformers", "torch", "peft"),
    *("mlx", "mlx-lm"),
)
_TRAIN_STATE = TypeAdapter(TrainState)
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)


class DamagedError(Exception):
    """A checkpoint or its state file is missing or was changed; the message says how."""


class SavedState(BaseModel):
    """The state after a number of steps, and where its weights are.

    `checkpoint` is the name of a directory in `<adapters>/checkpoints`, empty before the first one;
    `adapters` is `.` for the run's own directory. `remote` and `adapter` are a service's paths of
    the trainer's state and of the adapter, if it keeps them; `final` is its path of the adapter
    after the last step. `resume_fidelity` is how exactly the run was last resumed, empty if never.
    `files` has the SHA-256 of each file of the checkpoint, `logs` the marks of each log up to that
    step, and `fingerprints` those of the questions and the model. `damaged` is what was found in
    the logs whenever the run was resumed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    state: dict[str, JsonValue]
    checkpoint: str = ""
    adapters: str = "."
    remote: str = ""
    adapter: str = ""
    final: str = ""
    resume_fidelity: Fidelity | Literal[""] = ""
    score: float | None = None
    bytes: int = 0
    files: dict[str, str] = {}
    logs: dict[str, list[Mark]] = {}
    damaged: list[str] = []
    fingerprints: Fingerprints
    determinism: Determinism
    determinism_reason: str
    versions: dict[str, str]
    configuration_hash: str
    configuration: dict[str, JsonValue]

    @property
    def steps_done(self) -> int:
        """Steps completed."""
        return self.train_state.steps_done

    @property
    def train_state(self) -> TrainState:
        """The state that the loop carries from step to step."""
        return _TRAIN_STATE.validate_python(self.state)

    def resumed(self, restored: Restored | None) -> "SavedState":
        """The state with the fidelity of this resume; unchanged for a new run (None)."""
        if restored is None:
            return self
        return self.model_copy(update={"resume_fidelity": restored.fidelity})

    def adapters_in(self, run_dir: Path) -> Path:
        """The directory that holds `checkpoints/` and `final/`."""
        return run_dir / self.adapters

    def directory_in(self, run_dir: Path) -> Path:
        """The checkpoint's own directory."""
        return self.adapters_in(run_dir) / "checkpoints" / self.checkpoint

    def reference_in(self, run_dir: Path) -> CheckpointRef:
        """The argument of `Trainer.load`."""
        return CheckpointRef(self.directory_in(run_dir) / TRAINER_DIR, self.remote)

    def check(self, run_dir: Path) -> None:
        """Read every file of the checkpoint.

        Raises:
          DamagedError: a file is missing or was changed.
        """
        if not self.checkpoint:
            return
        directory = self.directory_in(run_dir)
        try:
            digests = digests_of(directory)
        except OSError as error:
            raise DamagedError(f"{error.filename} cannot be read ({error.strerror})") from error
        for name, digest in self.files.items():
            if name not in digests:
                raise DamagedError(f"{name} is missing")
            if digests[name] != digest:
                raise DamagedError(f"{name} was changed (its digest differs)")


def dump_train_state(state: TrainState) -> dict[str, JsonValue]:
    """The state as JSON, with all its fields."""
    return _TRAIN_STATE.dump_python(state, mode="json")


def write_state(path: Path, saved: SavedState) -> None:
    """Write a state with its own digest, atomically."""
    document = saved.model_dump(mode="json")
    text = json.dumps({**document, "digest": document_digest(document)}, indent=2, allow_nan=False)
    write_atomically(path, text + "\n")


def read_state(path: Path) -> SavedState:
    """Read a state.

    Raises:
      DamagedError: the file is missing or was changed.
    """
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        digest = document.pop("digest")
        intact = digest == document_digest(document)
        saved = SavedState.model_validate(document)
        assert isinstance(saved.train_state, TrainState)
    except FileNotFoundError:
        raise DamagedError(f"{path.name} is missing") from None
    except _UNREADABLE as error:
        raise DamagedError(f"{path.name} cannot be read") from error
    if not intact:
        raise DamagedError(f"{path.name} was changed (its digest differs)")
    return saved


def versions() -> dict[str, str]:
    """Versions of Python and the installed packages, and the machine type."""
    current = {"python": python_version(), "machine": machine()}
    for name in _PACKAGES:
        try:
            current[name] = version(name)
        except PackageNotFoundError:
            continue
    return current


def document_digest(document: Mapping[str, Any]) -> str:
    """SHA-256 of a JSON document, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
