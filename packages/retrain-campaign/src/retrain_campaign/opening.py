"""The directory of a campaign: a new one, or that of a campaign that is gone on with."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from retrain_backends.atomic import write_atomically
from retrain_backends.config import dump_config, label_of, load_config
from retrain_backends.errors import ConfigError
from retrain_backends.train.storage.compatibility import changes_between, settings_of
from retrain_campaign.commands import SCRIPT_FILE, run_all_script
from retrain_campaign.directory import CAMPAIGN_FILE, work_of
from retrain_campaign.manifest import Manifest, RunEntry, read_manifest
from retrain_campaign.plan import RUNS, Campaign, PlannedRun, campaign_of, plan_runs

_LOCK_FILE = ".lock"
_PATIENCE_S = 5.0  # a campaign that was killed may take a moment to go


@dataclass(frozen=True)
class Opened:
    """A campaign that is ready to run. `work` is the working directory of its runs."""

    campaign: Campaign
    directory: Path
    work: Path
    plan: tuple[PlannedRun, ...]
    manifest: Manifest


@contextmanager
def create(campaign: Campaign, directory: Path, threads: int) -> Iterator[Opened]:
    """Make the directory of a new campaign, which is this process's until the block ends.

    The manifest is written by whoever runs it; before that, the directory is not a campaign.

    Raises:
      ConfigError: it cannot be made.
    """
    try:
        (directory / RUNS).mkdir(parents=True)
    except OSError as error:
        raise ConfigError(
            f"cannot make the directory of the campaign, `{directory}` ({error.strerror}); "
            "campaign.directory names another one"
        ) from error
    with _sole_owner(directory):
        where = _seen_from(Path.cwd(), directory)
        plan = plan_runs(campaign, where)
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
            runs=[_entry(run) for run in plan],
        )
        _write_files(campaign, directory, plan, manifest.threads)
        yield Opened(campaign, directory, Path.cwd(), plan, manifest)


@contextmanager
def reopen(directory: Path, campaign: Campaign) -> Iterator[Opened]:
    """The directory of an earlier campaign, with what is not done planned again.

    Args:
      directory: of the campaign.
      campaign: as its file is now.

    Raises:
      ConfigError: it is no campaign, another process runs it, or the file has become another one.
    """
    read_manifest(directory)
    with _sole_owner(directory):
        manifest = read_manifest(directory)  # what a campaign that has just ended wrote
        file = directory / CAMPAIGN_FILE
        before = campaign_of(load_config(file), file)
        work = work_of(manifest)
        where = _seen_from(work, directory)
        plan = plan_runs(campaign, where)
        _refuse_changes(directory, plan_runs(before, where), plan)
        known = manifest.by_name()
        manifest = manifest.model_copy(
            update={
                "conditions": [label_of(condition) for condition in campaign.conditions],
                "seeds": list(campaign.seeds),
                "max_steps": campaign.max_steps,
                "wandb_project": campaign.base.logging.wandb_project,
                "executor": campaign.settings.executor,
                "directory": str(work),
                "runs": [_continued(run, known.get(run.name)) for run in plan],
                "squeeze": manifest.squeeze if manifest.is_squeezed else None,
            }
        )
        _write_files(campaign, directory, plan, manifest.threads)
        yield Opened(campaign, directory, work, plan, manifest)


def _seen_from(work: Path, directory: Path) -> Path:
    """The directory as its runs call it: relative to where they work if it is inside.

    It is the same from wherever the campaign is looked at, since workers are known by commands.
    """
    directory, work = directory.resolve(), work.resolve()
    return directory.relative_to(work) if directory.is_relative_to(work) else directory


def _entry(run: PlannedRun) -> RunEntry:
    return RunEntry(
        name=run.name,
        condition=run.label,
        seed=run.seed,
        command=command_of(run),
        run_dir=f"{RUNS}/{run.name}",
        max_steps=run.config.training.max_steps,
    )


def command_of(run: PlannedRun) -> list[str]:
    """What starts a run and what goes on with it, in the working directory of the campaign."""
    return [sys.executable, "-m", "retrain_backends", "--resume", run.config.logging.log_dir]


def _continued(run: PlannedRun, known: RunEntry | None) -> RunEntry:
    """A run as it goes on: what is done stays, unless it is to be longer now."""
    fresh = _entry(run)
    if known is None:
        return fresh
    longer = fresh.max_steps > known.max_steps
    own = {"command": fresh.command, "max_steps": fresh.max_steps}
    if known.status == "running" or (known.status == "done" and not longer):
        return known.model_copy(update=own)
    return fresh.model_copy(update={"reason": known.reason, "exit_code": known.exit_code})


def _refuse_changes(
    directory: Path, before: Sequence[PlannedRun], now: Sequence[PlannedRun]
) -> None:
    problems = [*_lost(directory, before, now), *_changed(directory, before, now)]
    if problems:
        raise ConfigError(*problems)


def _lost(
    directory: Path, before: Iterable[PlannedRun], now: Iterable[PlannedRun]
) -> Iterator[str]:
    names = {run.name for run in now}
    lost = [run.name for run in before if run.name not in names]
    if lost:
        shown = ", ".join(lost[:3]) + (f" and {len(lost) - 3} more" if len(lost) > 3 else "")
        yield (
            f"[campaign] the campaign in {directory} has runs that the file has not: {shown}; put "
            "their seeds and conditions back, or start a new campaign by leaving out --resume"
        )


def _changed(
    directory: Path, before: Iterable[PlannedRun], now: Sequence[PlannedRun]
) -> Iterator[str]:
    """A line for every setting that would make runs other runs, once for all that share it."""
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
    everyone = {run.label for run in runs}
    for line, of in labels.items():
        whose = "" if of == everyone else f" ({', '.join(sorted(of))})"
        yield (
            f"{line}{whose}; set it back, or start a new campaign by leaving out --resume "
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
def _sole_owner(directory: Path) -> Iterator[None]:
    lock = FileLock(directory / _LOCK_FILE, timeout=_PATIENCE_S)
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
