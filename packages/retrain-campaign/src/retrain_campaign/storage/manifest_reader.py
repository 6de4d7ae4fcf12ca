"""Reads the manifest of a campaign, and rebuilds what was damaged."""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from retrain_backends.config import RunConfig
from retrain_backends.errors import ConfigError
from retrain_campaign.plan.campaign import Campaign, campaign_of, plan_runs
from retrain_campaign.storage.campaign_directory import (
    CAMPAIGN_FILE,
    CHANGES_FILE,
    MANIFEST_FILE,
    is_campaign,
    relative_to,
)
from retrain_campaign.storage.manifest import (
    Manifest,
    ManifestLine,
    RunEntry,
    planned_entry,
    without_digest,
)
from retrain_campaign.storage.run_results import adapter_of, final_metrics, is_complete
from retrain_campaign.storage.run_state import is_locked


@dataclass
class _Log:
    """What `manifest.log` has: the manifest without its runs, and the newest entry of each run."""

    header: Manifest | None = None
    entries: dict[str, RunEntry] = field(default_factory=dict)
    damage: str = ""


def read_manifest(directory: Path) -> Manifest:
    """The manifest of a campaign, with all changes since it was written.

    What is damaged is rebuilt from the other file and from the runs' own directories;
    `Manifest.problems` then has a line for each damaged file.

    Raises:
      ConfigError: the directory is not a campaign, a file cannot be read, or both are damaged.
    """
    log = _read_log(directory / CHANGES_FILE)
    manifest, damage = _read_json(directory, log)
    if damage:
        campaign = started_as(manifest, directory)
        seen = relative_to(Path(manifest.directory), directory)
        manifest.runs = [planned_entry(run) for run in plan_runs(campaign, seen)]
    manifest.runs = [log.entries.get(entry.name, entry) for entry in manifest.runs]
    if damage or log.damage:
        manifest.runs = [_examined(directory, entry) for entry in manifest.runs]
    damaged = {MANIFEST_FILE: damage, CHANGES_FILE: log.damage}
    manifest.problems = [
        f"{directory / name}: {what}; the state of the runs was read from their directories"
        for name, what in damaged.items()
        if what
    ]
    return manifest


def started_as(manifest: Manifest, directory: Path) -> Campaign:
    """The campaign as it was when it was last started."""
    tables = tomllib.loads(manifest.configuration)
    config = RunConfig.model_validate(tables, by_alias=True, by_name=False)
    return campaign_of(config, directory / CAMPAIGN_FILE)


def _read_json(directory: Path, log: _Log) -> tuple[Manifest, str]:
    """`manifest.json`, or else the first line of the log and what is wrong with the file."""
    path = directory / MANIFEST_FILE
    try:
        return Manifest.model_validate_json(without_digest(path.read_bytes())), ""
    except FileNotFoundError:
        damage = "is missing"
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        damage = f"is damaged ({_reason(error)})"
    if log.header:
        return log.header, damage
    if not is_campaign(directory):
        raise ConfigError(f"{directory}: is not a campaign (it has no {MANIFEST_FILE})")
    raise ConfigError(
        f"{path}: {damage}, and {CHANGES_FILE} {log.damage}; start the campaign again from its "
        "file, in another directory"
    )


def _read_log(path: Path) -> _Log:
    """The changes; an incomplete last line, as a kill leaves, is ignored."""
    log = _Log()
    try:
        *lines, _ = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return _Log(damage="is missing")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    damaged = []
    for number, line in enumerate(lines, start=1):
        try:
            found = ManifestLine.model_validate_json(without_digest(line))
        except ValueError:
            damaged.append(number)
            continue
        if found.campaign:
            log.header = found.campaign
        elif found.run:
            log.entries[found.run.name] = found.run
    if damaged:
        rest = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
        log.damage = f"is damaged (line {damaged[0]}{rest})"
    elif log.header is None:
        log.damage = "is damaged (it has no first line)"
    return log


def _examined(directory: Path, entry: RunEntry) -> RunEntry:
    """The entry with the status that the run's own directory shows."""
    run_dir = directory / entry.run_dir
    if is_complete(run_dir, entry.max_steps):
        found = {
            "status": "done",
            "adapter": adapter_of(run_dir, directory),
            "final_metrics": final_metrics(run_dir),
        }
        return entry.model_copy(update=found)
    if is_locked(run_dir):
        return entry.model_copy(update={"status": "running"})
    if entry.status == "planned" and run_dir.is_dir():
        return entry.model_copy(update={"status": "stopped", "reason": "why is not known"})
    return entry


def _reason(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False)[0]
    return ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))
