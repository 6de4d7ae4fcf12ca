"""Creates the directory of a campaign, or opens that of an earlier one to resume it."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from retrain_backends.atomic import write_atomically
from retrain_backends.config import dump_config, label_of
from retrain_backends.errors import ConfigError
from retrain_backends.train.storage.compatibility import Change, changes_between, settings_of
from retrain_campaign.plan.campaign import RUNS, Campaign, PlannedRun, plan_runs
from retrain_campaign.plan.command_lines import SCRIPT_FILE, run_all_script
from retrain_campaign.storage.campaign_directory import CAMPAIGN_FILE, relative_to
from retrain_campaign.storage.find_directory import working_directory_of
from retrain_campaign.storage.manifest import Manifest, RunEntry, planned_entry
from retrain_campaign.storage.manifest_reader import read_manifest, started_as
from retrain_campaign.storage.run_results import OUTPUT_FILE, damaged_logs
from retrain_campaign.storage.run_state import missing_results

_LOCK_FILE = ".lock"
_LOCK_TIMEOUT_S = 5.0  # a killed campaign may take a moment to release its lock


@dataclass(frozen=True)
class OpenCampaign:
    """A campaign whose directory this process holds.

    Args:
      campaign: as its file describes it.
      directory: of the campaign.
      working_directory: of its runs.
      plan: all runs.
      manifest: all runs, each with its status.
      notes: lines on damage that was found, on changed settings, and on runs that are repeated.
    """

    campaign: Campaign
    directory: Path
    working_directory: Path
    plan: tuple[PlannedRun, ...]
    manifest: Manifest
    notes: tuple[str, ...] = ()


@contextmanager
def create_campaign(campaign: Campaign, directory: Path, threads: int) -> Iterator[OpenCampaign]:
    """Create the directory of a new campaign, and hold its lock until the block ends.

    The manifest is not written here; until it is, the directory does not count as a campaign.

    Args:
      campaign: whose directory it is.
      directory: to create.
      threads: CPU threads of each run.

    Raises:
      ConfigError: the directory cannot be created.
    """
    try:
        (directory / RUNS).mkdir(parents=True)
    except OSError as error:
        raise ConfigError(
            f"cannot create the campaign directory `{directory}` ({error.strerror}); "
            "set campaign.directory to another one"
        ) from error
    with _locked(directory):
        plan = plan_runs(campaign, relative_to(Path.cwd(), directory))
        manifest = Manifest(
            name=campaign.path.stem,
            timestamp=datetime.now().astimezone().isoformat(timespec="seconds"),
            conditions=[label_of(condition) for condition in campaign.conditions],
            seeds=list(campaign.seeds),
            max_steps=campaign.max_steps,
            wandb_project=campaign.base.logging.wandb_project,
            executor=campaign.settings.executor,
            directory=str(Path.cwd()),
            threads=threads,
            configuration=dump_config(campaign.config),
            runs=[planned_entry(run) for run in plan],
        )
        _write_files(campaign, directory, plan, manifest.threads)
        yield OpenCampaign(campaign, directory, Path.cwd(), plan, manifest)


@contextmanager
def resume_campaign(directory: Path, campaign: Campaign) -> Iterator[OpenCampaign]:
    """Open the directory of an earlier campaign, and plan again the runs that are not done.

    Its lock is held until the block ends.

    Args:
      directory: of the campaign.
      campaign: as its file is now.

    Raises:
      ConfigError: the directory is not a campaign, another process runs it, or a setting has
        changed that would change its runs.
    """
    read_manifest(directory)
    with _locked(directory):
        manifest = read_manifest(directory)  # again: a campaign that has just ended wrote it
        before = started_as(manifest, directory)
        working_directory = working_directory_of(manifest)
        seen = relative_to(working_directory, directory)
        plan = plan_runs(campaign, seen)
        _refuse_changes(directory, plan_runs(before, seen), plan)
        known = manifest.by_name()
        lost = {name: what for name in known if (what := _lost_results(directory, known[name]))}
        notes = (
            *manifest.problems,
            *(f"changed: {change}" for change in _changes(before, campaign)),
            *(f"{name}: was done, and is repeated: {what}" for name, what in lost.items()),
            *_damaged_runs(directory, (known[name] for name in known if name not in lost)),
        )
        manifest = manifest.model_copy(
            update={
                "conditions": [label_of(condition) for condition in campaign.conditions],
                "seeds": list(campaign.seeds),
                "max_steps": campaign.max_steps,
                "wandb_project": campaign.base.logging.wandb_project,
                "executor": campaign.settings.executor,
                "directory": str(working_directory),
                "configuration": dump_config(campaign.config),
                "runs": [_resumed(run, known.get(run.name), lost.get(run.name)) for run in plan],
                "own_time_s": None,
                "squeeze": manifest.squeeze if manifest.is_squeezed else None,
            }
        )
        _write_files(campaign, directory, plan, manifest.threads)
        yield OpenCampaign(campaign, directory, working_directory, plan, manifest, notes)


def _lost_results(directory: Path, entry: RunEntry) -> str:
    if entry.status != "done":
        return ""
    return missing_results(directory / entry.run_dir, entry.max_steps, entry.adapter)


def _damaged_runs(directory: Path, entries: Iterable[RunEntry]) -> Iterator[str]:
    """A line for each run whose logs have changed since it wrote them."""
    for entry in entries:
        run_dir = directory / entry.run_dir
        if damage := damaged_logs(run_dir):
            yield f"{entry.name}: {damage}; " + (
                f"it is left out of the comparison: delete {run_dir} to repeat it"
                if entry.status == "done"
                else f"what it does about that is in {run_dir / OUTPUT_FILE}"
            )


def _changes(before: Campaign, now: Campaign) -> Iterator[Change]:
    """All settings that differ; the steps of the runs are those of `campaign.max_steps`."""
    settings = (settings_of(campaign.config) for campaign in (before, now))
    for change in changes_between(*settings, evaluated=True):
        if change.setting != "training.max_steps":
            yield change


def _resumed(run: PlannedRun, known: RunEntry | None, lost: str | None) -> RunEntry:
    """The entry of a run in a resumed campaign.

    Done stays done, unless max_steps has grown or results were lost.
    """
    fresh = planned_entry(run)
    if known is None:
        return fresh
    longer = fresh.max_steps > known.max_steps
    updated = {"command": fresh.command, "max_steps": fresh.max_steps}
    if known.status == "running" or (known.status == "done" and not longer and not lost):
        return known.model_copy(update=updated)
    return fresh.model_copy(update={"reason": known.reason, "exit_code": known.exit_code})


def _refuse_changes(
    directory: Path, before: Sequence[PlannedRun], now: Sequence[PlannedRun]
) -> None:
    problems = [*_missing_runs(directory, before, now), *_changed_settings(directory, before, now)]
    if problems:
        raise ConfigError(*problems)


def _missing_runs(
    directory: Path, before: Iterable[PlannedRun], now: Iterable[PlannedRun]
) -> Iterator[str]:
    names = {run.name for run in now}
    missing = [run.name for run in before if run.name not in names]
    if missing:
        rest = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        yield (
            f"[campaign] the campaign in {directory} has runs that are not in the file: "
            f"{', '.join(missing[:3])}{rest}; restore their seeds and conditions, or start a new "
            "campaign by leaving out --resume"
        )


def _changed_settings(
    directory: Path, before: Iterable[PlannedRun], now: Sequence[PlannedRun]
) -> Iterator[str]:
    """A line for each changed setting that changes what a run computes, with its conditions."""
    earlier = {run.name: run for run in before}
    runs = [run for run in now if run.name in earlier]
    labels: dict[str, set[str]] = {}
    for run in runs:
        old = earlier[run.name].config
        if old == run.config:
            continue
        fewer = run.config.training.max_steps < old.training.max_steps
        evaluated = bool(old.eval.every)
        changes = changes_between(settings_of(old), settings_of(run.config), evaluated=evaluated)
        for change in changes:
            if change.effect == "refused" or (fewer and change.setting == "training.max_steps"):
                line = f"{change.setting}: the campaign has {change.before}, not {change.now}"
                labels.setdefault(line, set()).add(run.label)
    all_labels = {run.label for run in runs}
    for line, affected in labels.items():
        where = "" if affected == all_labels else f" ({', '.join(sorted(affected))})"
        yield (
            f"{line}{where}; set it back, or start a new campaign by leaving out --resume "
            f"{directory}"
        )


def _write_files(
    campaign: Campaign, directory: Path, plan: Iterable[PlannedRun], threads: int
) -> None:
    write_atomically(directory / CAMPAIGN_FILE, dump_config(campaign.config))
    script = directory / SCRIPT_FILE
    write_atomically(script, run_all_script(campaign, plan, threads))
    script.chmod(0o755)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    lock = FileLock(directory / _LOCK_FILE, timeout=_LOCK_TIMEOUT_S)
    try:
        lock.acquire()
    except Timeout:
        raise ConfigError(
            f"{directory}: another process is running this campaign; wait for it to end"
        ) from None
    try:
        yield
    finally:
        lock.release()
