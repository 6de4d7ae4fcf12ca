"""The overhead of a campaign: 2,000 runs whose trainer does nothing.

    uv run python benchmarks/campaign.py [--runs 2000] [--workers 4]

Everything is real but the command of a run, which is `true`: directories, configurations, the
manifest, processes, signals, the queue. Printed are the time a run, the same for a bare loop that
only starts `true`, the growth of memory from a tenth of the runs on, and how long `retrain status`
takes to look through what is left.
"""

import argparse
import contextlib
import os
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import psutil
from rich.console import Console

from retrain_campaign.control.controller import Controller
from retrain_campaign.control.workload import workload_of
from retrain_campaign.display.lines import LineDisplay
from retrain_campaign.executors.process import ProcessExecutor
from retrain_campaign.plan.campaign import load_campaign
from retrain_campaign.plan.capacity import Capacity
from retrain_campaign.report.status import scan
from retrain_campaign.storage.manifest import RunEntry
from retrain_campaign.storage.manifest_reader import read_manifest
from retrain_campaign.storage.manifest_store import ManifestStore
from retrain_campaign.storage.open_directory import create_campaign

FILE = """\
[backend]
backend = "fake"

[campaign]
seeds = [{seeds}]
max_steps = 5
parallel = true
max_workers = {workers}
"""
CONDITIONS = 5  # of the default ablation


class MemoryLog(LineDisplay):
    """A display that records the memory of this process after each run."""

    def __init__(self, console: Console, store: ManifestStore) -> None:
        super().__init__(console, store)
        self.memory: list[float] = []

    def changed(self, entry: RunEntry) -> None:
        """Count the finished runs."""
        super().changed(entry)
        if entry.status == "done":
            self.memory.append(psutil.Process().memory_info().rss / 2**20)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Overhead of a campaign.")
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=4)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
        measure(chosen.runs, chosen.workers)


def measure(runs: int, workers: int) -> None:
    """Run a campaign of so many runs, and say what it took."""
    file = Path("c.toml")
    seeds = ", ".join(map(str, range(runs // CONDITIONS)))
    file.write_text(FILE.format(seeds=seeds, workers=workers))
    began = time.perf_counter()
    campaign = load_campaign(file)
    directory = Path("campaign")
    with (
        create_campaign(campaign, directory, threads=1) as opened,
        Path(os.devnull).open("w") as nothing,
    ):
        store = ManifestStore(directory, opened.manifest)
        opened_s = time.perf_counter() - began
        capacity = Capacity(workers=workers, threads=1)
        workload = workload_of(opened, capacity)
        jobs = {name: replace(job, command=("true",)) for name, job in workload.jobs.items()}
        workload = replace(workload, jobs=jobs)
        for entry in opened.manifest.runs:
            leave_results(directory / entry.run_dir, entry.max_steps)
        began, cpu = time.perf_counter(), time.process_time()
        display = MemoryLog(Console(file=nothing), store)
        Controller(store, workload, ProcessExecutor(), display).run()
        run_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    assert all(entry.status == "done" for entry in read_manifest(directory).runs)
    count = len(opened.plan)
    print(f"{count:,} runs, {workers} at once")
    print(f"plan, directory, manifest  {opened_s:7.2f} s")
    print(f"runs                       {run_s:7.2f} s, {1e3 * run_s / count:.2f} ms each")
    print(f"CPU of the controller      {cpu_s:7.2f} s, {1e3 * cpu_s / count:.2f} ms each")
    print(f"starting `true` alone      {bare_ms(min(count, 200)):22.2f} ms each")
    tenth = len(display.memory) // 10
    first, last = display.memory[tenth], display.memory[-1]
    print(f"memory after {tenth:,} and all  {first:.1f} and {last:.1f} MiB")
    size = (directory / "manifest.json").stat().st_size
    began = time.perf_counter()
    found = scan(Path()).campaigns[0].runs
    status_s = time.perf_counter() - began
    print(f"status of {len(found):,} runs       {status_s:7.2f} s")
    print(f"manifest.json              {size / 2**20:7.2f} MiB")


def leave_results(run_dir: Path, steps: int) -> None:
    """Write what a finished run must have: its last row, and its adapter."""
    (run_dir / "final").mkdir(parents=True)
    (run_dir / "metrics.jsonl").write_text(f'{{"step": {steps - 1}}}\n')


def bare_ms(count: int) -> float:
    """Milliseconds to start a process that does nothing and to wait for its end."""
    began = time.perf_counter()
    for _ in range(count):
        subprocess.run(["true"], check=True)
    return 1e3 * (time.perf_counter() - began) / count


if __name__ == "__main__":
    main()
