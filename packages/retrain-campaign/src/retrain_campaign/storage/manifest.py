"""`manifest.json`: the runs of a campaign and the status of each.

The file is replaced as a whole. Between two replacements each change is a line of `manifest.log`,
so that a campaign of thousands of runs does not rewrite all of them at every change.
`read_manifest` combines both, and so is correct for a campaign that was killed.
"""

import json
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from retrain_backends.atomic import write_atomically
from retrain_backends.errors import ConfigError
from retrain_campaign.storage.campaign_directory import MANIFEST_FILE

CHANGES_FILE = "manifest.log"

Status: TypeAlias = Literal["planned", "running", "done", "failed", "stopped"]


class RunEntry(BaseModel):
    """One run. Times are UTC, in ISO 8601; paths are relative to the campaign's directory.

    `adapter` may also be a service's path (`tinker://…`). `attempts` counts the starts since the
    run was last planned; `reason` is why it failed or stopped; `pid_started` distinguishes its
    process from a later one with the same pid; `job` is the cluster's id for it.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    condition: str
    seed: int
    command: list[str]
    run_dir: str
    max_steps: int
    status: Status = "planned"
    host: str = ""
    pid: int | None = None
    pid_started: float | None = None
    gpus: list[str] = []
    job: str = ""
    heartbeat: str | None = None
    attempts: int = 0
    reason: str = ""
    exit_code: int | None = None
    adapter: str | None = None
    final_metrics: dict[str, JsonValue] | None = None
    started: str | None = None
    ended: str | None = None


class Manifest(BaseModel):
    """A campaign; `directory` is the working directory of its runs, `threads` is per run."""

    model_config = ConfigDict(extra="forbid")

    format: Literal[1] = 1
    name: str
    timestamp: str
    conditions: list[str]
    seeds: list[int]
    max_steps: int
    wandb_project: str
    executor: str
    directory: str
    threads: int
    runs: list[RunEntry]
    squeeze: dict[str, JsonValue] | None = None

    @property
    def is_squeezed(self) -> bool:
        """Whether an adapter has been analysed."""
        return self.squeeze is not None and "error" not in self.squeeze

    def by_name(self) -> dict[str, RunEntry]:
        """The runs, by name."""
        return {run.name: run for run in self.runs}


def read_manifest(directory: Path) -> Manifest:
    """The manifest of a campaign, with all changes since it was written.

    Raises:
      ConfigError: there is no manifest, or it is damaged.
    """
    path = directory / MANIFEST_FILE
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise ConfigError(f"{directory}: is not a campaign (it has no {MANIFEST_FILE})") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except ValidationError as error:
        raise ConfigError(
            f"{path}: is damaged ({_first_of(error)}); start the campaign again from its file, in "
            "another directory"
        ) from error
    changes = _changes(directory)
    index_of = {run.name: index for index, run in enumerate(manifest.runs)}
    for entry in changes:
        if entry.name in index_of:
            manifest.runs[index_of[entry.name]] = entry
    return manifest


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Replace the manifest atomically, and remove the log of changes, which it now includes."""
    write_atomically(directory / MANIFEST_FILE, _text(manifest.model_dump(mode="json")))
    (directory / CHANGES_FILE).unlink(missing_ok=True)


def _changes(directory: Path) -> list[RunEntry]:
    """The changes since, oldest first; an incomplete last line is ignored."""
    path = directory / CHANGES_FILE
    try:
        *lines, _ = path.read_bytes().split(b"\n")
        return [RunEntry.model_validate_json(line) for line in lines]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except ValidationError as error:
        raise ConfigError(
            f"{path}: is damaged ({_first_of(error)}); the runs themselves are intact: remove this "
            f"file and resume with `retrain campaign {directory}`"
        ) from error


def _first_of(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    return ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
