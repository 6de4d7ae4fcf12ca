"""Runs a campaign from its plan to the final comparison."""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from time import time

from rich.console import Console

from retrain_backends.config import Origin
from retrain_backends.dotted_names import load_object
from retrain_backends.tracking.console import print_lines
from retrain_backends.train.storage.durable_writes import report_full_disk, report_inaccessible
from retrain_campaign.control.adapter_analysis import analysis_for
from retrain_campaign.control.controller import Controller
from retrain_campaign.control.workload import Workload, workload_of
from retrain_campaign.display.lines import PipeSafeConsole, print_failures
from retrain_campaign.display.live_table import display_for
from retrain_campaign.executors.protocol import Executor
from retrain_campaign.plan.campaign import Campaign, plan_runs
from retrain_campaign.plan.capacity import Capacity, capacity_of, this_machine
from retrain_campaign.plan.checks import (
    check_disk_space,
    check_plan,
    free_bytes,
    idle_conditions,
)
from retrain_campaign.report.compare import (
    CURVES_FILE,
    compare,
    comparison_table,
    draw_campaign,
    missing_lines,
)
from retrain_campaign.squeeze import settings_after_training
from retrain_campaign.storage.find_directory import (
    earlier_directory,
    in_working_directory,
    new_directory,
)
from retrain_campaign.storage.manifest_reader import read_manifest
from retrain_campaign.storage.manifest_store import ManifestStore
from retrain_campaign.storage.open_directory import (
    OpenCampaign,
    create_campaign,
    resume_campaign,
)
from retrain_squeeze.settings import SqueezeSettings

EXECUTORS = {
    "process": "retrain_campaign.executors.process:ProcessExecutor",
    "ray": "retrain_campaign.executors.ray_cluster:RayExecutor",
    "slurm": "retrain_campaign.executors.slurm:SlurmExecutor",
}
_FAILED, _INTERRUPTED = 1, 130


def run_campaign(
    campaign: Campaign,
    *,
    resume: bool = False,
    directory: Path | None = None,
    started: float | None = None,
) -> int:
    """Run a campaign and return the exit code.

    Args:
      campaign: what to run.
      resume: continue an earlier campaign instead of starting a new one.
      directory: of the earlier campaign; None for the newest of the same file.
      started: when the command was started, in seconds since 1970, for the time that the campaign
        itself takes; None if unknown.

    Raises:
      RetrainError: a check failed before any run was started, or the disk is full.
    """
    if not resume:
        path = new_directory(campaign, datetime.now())
        return _run_in(campaign, path, resume=False, started=started)
    with in_working_directory(directory or earlier_directory(campaign)) as found:
        return _run_in(campaign, found, resume=True)


def _run_in(
    campaign: Campaign, directory: Path, *, resume: bool, started: float | None = None
) -> int:
    plan = plan_runs(campaign)
    check_plan(plan)
    capacity = capacity_of(campaign, this_machine(os.environ), len(plan))
    name = campaign.settings.executor
    executor_type = load_object(EXECUTORS[name], f"campaign.executor: `{name}`")
    executor: Executor = executor_type.from_campaign(campaign)
    console = PipeSafeConsole(highlight=False)
    squeeze = _pending_squeeze(campaign, directory, resume=resume)
    if not resume:
        check_disk_space(plan, directory, free_bytes(directory))
    resuming = f"resume with `retrain campaign {directory}`; runs that have been started continue"
    with (
        report_full_disk(lambda: f"{directory}: the disk is full; free some space and {resuming}"),
        report_inaccessible(directory, lambda: resuming),
    ):
        opening = (
            resume_campaign(directory, campaign)
            if resume
            else create_campaign(campaign, directory, capacity.threads)
        )
        with opening as opened:
            analyse = analysis_for(squeeze, directory) if squeeze else None
            workload = workload_of(opened, capacity, analyse)
            store, code = _run(opened, workload, executor, console)
            if code == 0 and started is not None:
                store.record_own_time(time() - started)
            return code


def _pending_squeeze(
    campaign: Campaign, directory: Path, *, resume: bool
) -> SqueezeSettings | None:
    """The analysis of `[squeeze]`; None if it is not in the file, or is already done."""
    done = resume and read_manifest(directory).is_squeezed
    if campaign.squeeze is None or done:
        return None
    return settings_after_training(campaign.config, Origin(str(campaign.path)), resumed=resume)


def _run(
    opened: OpenCampaign, workload: Workload, executor: Executor, console: Console
) -> tuple[ManifestStore, int]:
    for line in _opening_lines(opened, workload.capacity):
        print_lines(console, line)
    with (
        closing(ManifestStore(opened.directory, opened.manifest)) as store,
        display_for(console, store) as display,
    ):
        finished = Controller(store, workload, executor, display).run()
    return store, _summarise(store, console, finished)


def _opening_lines(opened: OpenCampaign, capacity: Capacity) -> Iterator[str]:
    manifest = opened.manifest
    sizes = f"{len(manifest.conditions)} conditions x {len(manifest.seeds)} seeds"
    at_once = "one after another" if capacity.workers == 1 else f"{capacity.workers} at once"
    yield f"{len(manifest.runs)} runs ({sizes}), {at_once}, in {opened.directory}"
    yield from opened.notes
    yield from (f"note: {note}" for note in idle_conditions(opened.plan))
    done = sum(entry.status == "done" for entry in manifest.runs)
    if done:
        yield f"{done} of them are done"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    idle = cores - capacity.workers * manifest.threads
    if idle > 0 and not capacity.gpus and opened.campaign.base.backend.backend == "local":
        yield (
            f"each run uses {manifest.threads} CPU threads, so that its numbers do not depend on "
            "how many runs go at once; set backend.options.threads to give each run more"
        )


def _compare(directory: Path, console: Console) -> None:
    comparison = compare(directory)
    console.print(comparison_table(comparison))
    print_lines(console, *missing_lines(comparison))
    if draw_campaign(comparison, directory / CURVES_FILE):
        print_lines(console, f"curves: {directory / CURVES_FILE}")


def _summarise(store: ManifestStore, console: Console, finished: bool) -> int:
    """Print the comparison, the failures and the counts, and return the exit code."""
    entries = store.entries
    if any(entry.status == "done" for entry in entries):
        _compare(store.directory, console)
    print_failures(console, [e for e in entries if e.status in ("failed", "stopped")])
    counts = Counter(entry.status for entry in entries)
    words = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    print_lines(console, f"{words}; {store.directory}")
    if finished and counts["done"] == len(entries):
        return 0
    print_lines(console, f"to resume: `retrain campaign {store.directory}`")
    return _FAILED if finished else _INTERRUPTED
