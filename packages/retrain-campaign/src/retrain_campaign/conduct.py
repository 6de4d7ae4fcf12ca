"""A campaign from its plan to its end: looked through, opened, run, summed up."""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

from rich.console import Console

from retrain_backends.config import Origin
from retrain_backends.plugins import load_object
from retrain_backends.tracking.console import print_lines
from retrain_backends.train.storage.durable_writes import report_full_disk
from retrain_campaign.arguments import Asked
from retrain_campaign.capacity import Capacity, capacity_of, this_machine
from retrain_campaign.compare import (
    CURVES_FILE,
    compare,
    comparison_table,
    draw_campaign,
    missing_lines,
)
from retrain_campaign.console import LastingConsole, print_failures
from retrain_campaign.controller import Controller
from retrain_campaign.directory import earlier_directory, new_directory, where_its_runs_work
from retrain_campaign.executors.protocol import Executor, Job
from retrain_campaign.ledger import Ledger
from retrain_campaign.manifest import read_manifest
from retrain_campaign.opening import Opened, create, reopen
from retrain_campaign.orders import Orders
from retrain_campaign.outcome import OUTPUT_FILE
from retrain_campaign.plan import Campaign, plan_runs
from retrain_campaign.preflight import check_plan, check_room, free_at, idle_conditions
from retrain_campaign.squeeze import analysis_for, settings_after_training
from retrain_campaign.table import view_for
from retrain_squeeze.settings import SqueezeSettings

EXECUTORS = {
    "process": "retrain_campaign.executors.process:ProcessExecutor",
    "ray": "retrain_campaign.executors.ray_cluster:RayExecutor",
    "slurm": "retrain_campaign.executors.slurm:SlurmExecutor",
}
_FAILED, _INTERRUPTED = 1, 130


def conduct(campaign: Campaign, asked: Asked) -> int:
    """Run a campaign, a new one or an earlier one to its end, and return the exit code.

    Raises:
      RetrainError: something is wrong that can be known before a run starts, or the disk is full.
    """
    if not asked.goes_on:
        return _conduct(campaign, new_directory(campaign, datetime.now()), goes_on=False)
    with where_its_runs_work(asked.directory or earlier_directory(campaign)) as directory:
        return _conduct(campaign, directory, goes_on=True)


def _conduct(campaign: Campaign, directory: Path, *, goes_on: bool) -> int:
    plan = plan_runs(campaign)
    check_plan(plan)
    capacity = capacity_of(campaign, this_machine(os.environ), len(plan))
    name = campaign.settings.executor
    kind = load_object(EXECUTORS[name], f"campaign.executor: `{name}`")
    executor: Executor = kind.from_campaign(campaign)
    console = LastingConsole(highlight=False)
    squeeze = _squeeze_to_do(campaign, directory, goes_on=goes_on)
    if not goes_on:
        check_room(plan, directory, free_at(directory))
    with report_full_disk(
        lambda: (
            f"{directory}: the disk is full; make room, and `retrain campaign {directory}` goes on"
        )
    ):
        opening = (
            reopen(directory, campaign)
            if goes_on
            else create(campaign, directory, capacity.threads)
        )
        with opening as opened:
            orders = _orders(opened, capacity, squeeze)
            return _run(opened, orders, executor, console)


def _squeeze_to_do(campaign: Campaign, directory: Path, *, goes_on: bool) -> SqueezeSettings | None:
    """What `[squeeze]` asks for, unless the campaign that is gone on with has done it."""
    done = goes_on and read_manifest(directory).is_squeezed
    if campaign.squeeze is None or done:
        return None
    return settings_after_training(campaign.config, Origin(str(campaign.path)))


def _orders(opened: Opened, capacity: Capacity, squeeze: SqueezeSettings | None) -> Orders:
    return Orders(
        plan={run.name: run for run in opened.plan},
        jobs=jobs_of(opened, capacity),
        settings=opened.campaign.settings,
        capacity=capacity,
        analyse=analysis_for(squeeze, opened.directory) if squeeze else None,
    )


def _run(opened: Opened, orders: Orders, executor: Executor, console: Console) -> int:
    for line in _opening_lines(opened, orders.capacity):
        print_lines(console, line)
    with (
        closing(Ledger(opened.directory, opened.manifest)) as ledger,
        view_for(console, ledger) as view,
    ):
        finished = Controller(ledger, orders, executor, view).run()
    return _conclude(ledger, console, finished)


def jobs_of(opened: Opened, capacity: Capacity) -> dict[str, Job]:
    """What an executor is to start for each run, by its name."""
    environment = {
        "OMP_NUM_THREADS": str(opened.manifest.threads),
        "PYTHONUNBUFFERED": "1",  # so that a run that is killed has said all it said
    }
    return {
        entry.name: Job(
            name=entry.name,
            command=tuple(entry.command),
            directory=opened.work,
            environment=environment,
            output=(opened.directory / entry.run_dir / OUTPUT_FILE).resolve(),
            gpus=capacity.gpus_each,
            threads=opened.manifest.threads,
        )
        for entry in opened.manifest.runs
    }


def _opening_lines(opened: Opened, capacity: Capacity) -> Iterator[str]:
    manifest = opened.manifest
    sizes = f"{len(manifest.conditions)} conditions x {len(manifest.seeds)} seeds"
    at_once = "one after another" if capacity.workers == 1 else f"{capacity.workers} at once"
    yield f"{len(manifest.runs)} runs ({sizes}), {at_once}, in {opened.directory}"
    yield from (f"note: {note}" for note in idle_conditions(opened.plan))
    done = sum(entry.status == "done" for entry in manifest.runs)
    if done:
        yield f"{done} of them are done"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    idle = cores - capacity.workers * manifest.threads
    if idle > 0 and not capacity.gpus and opened.campaign.base.backend.backend == "local":
        yield (
            f"each run computes on {manifest.threads} CPU threads, so that its numbers do not "
            "depend on how many go at once; backend.options.threads gives each more"
        )


def _compare(directory: Path, console: Console) -> None:
    comparison = compare(directory)
    console.print(comparison_table(comparison))
    print_lines(console, *missing_lines(comparison))
    if draw_campaign(comparison, directory / CURVES_FILE):
        print_lines(console, f"curves: {directory / CURVES_FILE}")


def _conclude(ledger: Ledger, console: Console, finished: bool) -> int:
    entries = ledger.entries
    if any(entry.status == "done" for entry in entries):
        _compare(ledger.directory, console)
    print_failures(console, [e for e in entries if e.status in ("failed", "stopped")])
    counts = Counter(entry.status for entry in entries)
    words = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    print_lines(console, f"{words}; {ledger.directory}")
    if finished and counts["done"] == len(entries):
        return 0
    print_lines(console, f"`retrain campaign {ledger.directory}` goes on")
    return _FAILED if finished else _INTERRUPTED
