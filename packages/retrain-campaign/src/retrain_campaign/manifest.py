"""`manifest.json`: what a campaign is made of, and how far each of its runs is.

The file is replaced whole. Between two replacements each change is one line of `manifest.log`,
so that a campaign of thousands of runs need not write all of them at every step; what `read`
returns is true even for a campaign that was killed.
"""

import json
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from retrain_backends.atomic import write_atomically
from retrain_backends.errors import ConfigError

MANIFEST_FILE = "manifest.json"
CHANGES_FILE = "manifest.log"

Status: TypeAlias = Literal["planned", "running", "done", "failed", "stopped"]


class RunEntry(BaseModel):
    """One run. `run_dir` is relative to the campaign; times are UTC, in ISO 8601.

    So is `adapter`, unless a service has it (`tinker://…`). `attempts` counts its starts since it
    was last planned; `reason` says why it failed or stopped; `pid_started` tells its process from a
    later one of the same number, and `job` is the name that a cluster has for it.
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
    """A campaign.

    `directory` is the working directory of its runs, `threads` are the CPU threads of each.
    """

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
        """The runs by their names."""
        return {run.name: run for run in self.runs}


def is_campaign(directory: Path) -> bool:
    """Whether a directory is that of a campaign; other programs have a `manifest.json` too.

    One that is damaged counts as a campaign's, so that it is told and not passed over in silence.
    """
    # A border: it may be anybody's file.
    try:
        found = json.loads((directory / MANIFEST_FILE).read_bytes())
    except OSError:
        return False
    except (ValueError, RecursionError):
        return True
    return isinstance(found, dict) and {"format", "runs"} <= found.keys()


def read_manifest(directory: Path) -> Manifest:
    """The manifest of a campaign with all changes since it was written.

    Raises:
      ConfigError: there is none, or it is damaged.
    """
    path = directory / MANIFEST_FILE
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise ConfigError(f"{directory}: is no campaign (it has no {MANIFEST_FILE})") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except ValidationError as error:
        raise ConfigError(
            f"{path}: is damaged ({_first_of(error)}); start the campaign again from its file, in "
            "another directory"
        ) from error
    changes = _changes(directory)
    place = {run.name: index for index, run in enumerate(manifest.runs)}
    for entry in changes:
        if entry.name in place:
            manifest.runs[place[entry.name]] = entry
    return manifest


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Replace the manifest, whole or not at all; it then holds all changes."""
    write_atomically(directory / MANIFEST_FILE, _text(manifest.model_dump(mode="json")))
    (directory / CHANGES_FILE).unlink(missing_ok=True)


def _changes(directory: Path) -> list[RunEntry]:
    """The changes since, oldest first; a last line that was torn off by a kill does not count."""
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
            f"{path}: is damaged ({_first_of(error)}); the runs themselves are whole: remove this "
            f"file, and `retrain campaign {directory}` goes on"
        ) from error


def _first_of(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    return ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
