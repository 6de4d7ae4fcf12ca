"""Measure wall time, processor time and the peak memory of the process."""

import json
import time
from collections.abc import Callable
from pathlib import Path

MIB = 2**20


def timed(work: Callable[[], object]) -> dict[str, float]:
    """Seconds of the clock and of all cores."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}


def best(work: Callable[[], object], repeats: int) -> dict[str, float]:
    """The fastest of several runs, which other processes disturbed least."""
    return min((timed(work) for _ in range(repeats)), key=lambda run: run["wall_s"])


def peak_mib() -> float:
    """The peak memory of this process, including mapped files (Linux)."""
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def report(**figures: object) -> None:
    """Print the figures as the last line, for the parent process."""
    print(json.dumps(figures))
