"""The tracker for Weights & Biases. Imports wandb, so it is loaded by name and on demand."""

import json
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

import wandb

from retrain_backends.atomic import write_atomically
from retrain_backends.errors import RunError
from retrain_backends.tracking.trackers import TrackedRun

# In the run's directory; has the id of the wandb run.
IDENTITY_FILE: Final = "wandb.json"
_INIT_TIMEOUT_S = 30
_FINISH_TIMEOUT_S = 60
_LONGEST_TAG = 64  # that wandb accepts
_LONGEST_NAME = 128


class WandbTracker:
    """A run on Weights & Biases, or in its files when `WANDB_MODE=offline`.

    The id is kept in the run's directory, and a resumed run continues under it. Online, steps that
    the server has are not sent again. Offline, every start writes a directory with all steps and
    deletes those of earlier starts, so that steps that a killed process had not written are there,
    and no step is there twice.

    Args:
      run: what is tracked.

    Raises:
      RunError: there is no key.
      Exception: whatever wandb raises, as when the service cannot be reached.
    """

    @classmethod
    def from_config(cls, run: TrackedRun) -> Self:
        """The tracker of a run."""
        return cls(run)

    def __init__(self, run: TrackedRun) -> None:
        identity = _identity(run.directory)
        self._run: Any = _start(run, identity)
        offline = self._run.offline
        self._first = 0 if offline else self._run.step
        if not (offline or self._run.url):
            run.report("wandb: switched off by WANDB_MODE")
            return
        for superseded in _offline_directories(run.directory, identity, self._run.dir):
            shutil.rmtree(superseded)
        place = Path(self._run.dir).parent
        sync = f"offline; `wandb sync {place}` uploads the run"
        run.report(f"wandb: {sync if offline else self._run.url}")

    def log(self, step: int, figures: Mapping[str, float | str]) -> None:
        """Add the step to the history, unless it is there."""
        if step >= self._first:
            self._run.log(dict(figures), step=step, commit=True)

    def close(self) -> None:
        """Wait for the upload, at most a minute; what is left stays in the run's directory."""
        self._run.finish()


def _start(run: TrackedRun, identity: str) -> Any:
    """Start or resume the run, without console output and without a prompt for a key."""
    quiet = {"silent": True, "console": "off"}
    mode = wandb.setup(wandb.Settings(**quiet)).settings.mode
    if mode == "online" and not wandb.login(prompt=False, verify=False):
        raise RunError(
            "no key: `wandb login` stores one, WANDB_API_KEY has one, WANDB_MODE=offline needs none"
        )
    logging = run.logging
    tags = (tag.strip() for tag in logging.wandb_tags.split(","))
    return wandb.init(
        project=logging.wandb_project,
        entity=logging.wandb_entity or None,
        name=(logging.wandb_run_name or run.name)[:_LONGEST_NAME],
        group=logging.wandb_group[:_LONGEST_NAME] or None,
        tags=[tag[:_LONGEST_TAG] for tag in dict.fromkeys(tags) if tag],
        config=dict(run.settings),
        allow_val_change=True,
        dir=str(run.directory),
        id=identity,
        resume="allow",
        reinit="create_new",
        settings=wandb.Settings(
            **quiet,
            init_timeout=_INIT_TIMEOUT_S,
            finish_timeout=_FINISH_TIMEOUT_S,
            finish_timeout_raises=True,
        ),
    )


def _identity(directory: Path) -> str:
    """The id of the wandb run; drawn once and kept in a file."""
    path = directory / IDENTITY_FILE
    try:
        return json.loads(path.read_text(encoding="utf-8"))["id"]
    except FileNotFoundError:
        identity = secrets.token_hex(8)
    write_atomically(path, json.dumps({"id": identity}) + "\n")
    return identity


def _offline_directories(directory: Path, identity: str, current: str) -> list[Path]:
    """The directories that earlier starts of the run wrote offline."""
    found = (directory / "wandb").glob(f"offline-run-*-{identity}")
    return [path for path in found if path.resolve() != Path(current).parent.resolve()]
