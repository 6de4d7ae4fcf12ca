"""`manifest.json`: the runs of a campaign and the status of each.

The file is replaced as a whole. Between two replacements each change is a line of `manifest.log`,
so that a campaign of thousands of runs does not rewrite all of them at every change. The first line
of `manifest.log` repeats the manifest without its runs, from which a damaged `manifest.json` is
rebuilt. Both files have digests, so that damage is noticed.

    {"campaign": {"name": ..., ...}, "digest": ...}
    {"run": {"name": ..., "status": "running", ...}, "digest": ...}
"""

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from retrain_backends.atomic import write_atomically
from retrain_campaign.plan.campaign import RUNS, PlannedRun
from retrain_campaign.storage.campaign_directory import CHANGES_FILE, MANIFEST_FILE

_DIGEST_KEY = ', "digest": "'

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


BEFORE_START: Mapping[str, Any] = {
    "host": "",
    "pid": None,
    "pid_started": None,
    "job": "",
    "reason": "",
    "exit_code": None,
    "adapter": None,
    "final_metrics": None,
    "ended": None,
}
"""Values of an entry that a new start resets."""


class Manifest(BaseModel):
    """A campaign.

    `directory` is the working directory of its runs, `threads` is per run, and `configuration` is
    the text of `campaign.toml`. `own_time_s` has the seconds that the command took before the first
    run and after the last; None if it was resumed, or is still running. `problems` has a line for
    each damage that was found when the manifest was read; it is not written.
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
    configuration: str
    runs: list[RunEntry]
    squeeze: dict[str, JsonValue] | None = None
    own_time_s: float | None = None
    problems: list[str] = Field(default=[], exclude=True)

    @property
    def is_squeezed(self) -> bool:
        """Whether an adapter has been analysed."""
        return self.squeeze is not None and "error" not in self.squeeze

    def by_name(self) -> dict[str, RunEntry]:
        """The runs, by name."""
        return {run.name: run for run in self.runs}


class ManifestLine(BaseModel):
    """A line of `manifest.log`: the manifest without its runs, or the new entry of a run."""

    model_config = ConfigDict(extra="forbid")

    campaign: Manifest | None = None
    run: RunEntry | None = None


def planned_entry(run: PlannedRun) -> RunEntry:
    """The entry of a run that has not been started."""
    return RunEntry(
        name=run.name,
        condition=run.label,
        seed=run.seed,
        command=command_of(run),
        run_dir=f"{RUNS}/{run.name}",
        max_steps=run.config.training.max_steps,
    )


def command_of(run: PlannedRun) -> list[str]:
    """The command that starts or resumes a run, in the working directory of the campaign."""
    return [sys.executable, "-m", "retrain_backends", "--resume", run.config.logging.log_dir]


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Replace the manifest atomically, and then the log of changes, which it now includes."""
    document = manifest.model_dump(mode="json")
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(directory / MANIFEST_FILE, with_digest(text) + "\n")
    header = manifest.model_copy(update={"runs": []})
    write_atomically(directory / CHANGES_FILE, _line("campaign", header))


def line_of_run(entry: RunEntry) -> str:
    """The line of `manifest.log` for the new entry of a run."""
    return _line("run", entry)


def _line(key: str, value: BaseModel) -> str:
    return with_digest(f'{{"{key}":{value.model_dump_json()}}}') + "\n"


def with_digest(text: str) -> str:
    """The text of a JSON object, with the SHA-256 of the other members as its last member."""
    body = text[:-1].rstrip()
    return f'{body}{_DIGEST_KEY}{_sha256(body.encode())}"}}'


def without_digest(data: bytes) -> bytes:
    """The text that `with_digest` was given, but for white space at its end.

    Raises:
      ValueError: there is no digest, or it is that of another text.
    """
    body, _, rest = data.rpartition(_DIGEST_KEY.encode())
    if not body:
        raise ValueError("it has no digest at its end")
    if rest.strip() != f'{_sha256(body)}"}}'.encode():
        raise ValueError("its digest differs")
    return body + b"}"


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
