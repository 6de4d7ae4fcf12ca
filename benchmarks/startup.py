"""CPU seconds that a command spends before its work begins.

    uv run python benchmarks/startup.py [--repeats 5] [--only WORD]

Each command runs in a process of its own with one thread; printed are its user and system time and
that of its children, minimum and median, and the minimum as a multiple of a bare interpreter's.
A run ends when it has written the row of its first step, which is as small as a step can be.
Limits are those of an idle core. "torch + model" is what a local run cannot do without; "no torch"
hides an installed torch, as on a machine that trains on a service.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from retrain_backends.tokenizer import resolve_model
from retrain_test_support.tinker.server import TinkerServer

MODEL = "builtin:tiny-arithmetic"
QUICKSTART = Path(__file__).parent.parent / "examples" / "quickstart.toml"
COMMAND = "import sys; from retrain_cli.app import main; main(sys.argv[1:])"
NO_TORCH = f"import sys; sys.modules['torch'] = None; {COMMAND}"
MODEL_CLASSES = "import torch; from transformers import AutoModelForCausalLM, Qwen3ForCausalLM"
RUN = """\
[backend]
backend = "{backend}"
devices = "cpu"

[model]
model = "{model}"
base_url = "{url}"

[data]
source = "arithmetic"

[reward]
type = "match"

[training]
seed = 1
batch_size = 1
group_size = 2
max_tokens = 2
"""


@dataclass(frozen=True)
class Case:
    """Something to measure.

    `code` is what the interpreter runs, with `arguments`; `limit` the CPU seconds that are meant to
    be enough. A `run` is stopped after its first step.
    """

    name: str
    code: str
    arguments: tuple[str, ...] = ()
    limit: str = ""
    run: bool = False


def cases(directory: Path, url: str) -> list[Case]:
    """All that is measured, the bare interpreter first."""
    files = {name: directory / f"{name}.toml" for name in ("fake", "tinker", "local")}
    for name, file in files.items():
        address = url if name == "tinker" else ""
        file.write_text(RUN.format(backend=name, model=MODEL, url=address))
    asked = {name: (str(file), "--log-dir", str(directory / "run")) for name, file in files.items()}
    return [
        Case("python", "pass"),
        Case("import numpy", "import numpy"),
        Case("import retrain_core", "import retrain_core", limit="numpy"),
        Case("retrain --help", COMMAND, ("--help",), "0.35"),
        Case("retrain status", COMMAND, ("status", str(directory)), "0.4"),
        Case("retrain explain", COMMAND, ("explain", str(QUICKSTART)), "1.0"),
        Case("run on fake", COMMAND, asked["fake"], "1.5", run=True),
        Case("run on Tinker, no torch", NO_TORCH, asked["tinker"], "1.5", run=True),
        Case("run on Tinker", COMMAND, asked["tinker"], run=True),
        Case("import tinker", "import tinker"),
        Case("torch + model", MODEL_CLASSES),
        Case("local run", COMMAND, asked["local"], "torch + model + 1.0", run=True),
    ]


def _environment() -> dict[str, str]:
    """That of this process, but compiled modules are kept, as they are by default."""
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "OMP_NUM_THREADS": "1", "TINKER_API_KEY": "tml-none"}


def cpu_seconds(case: Case, directory: Path) -> float:
    """User and system time of one process and its children."""
    metrics = directory / "run" / "metrics.jsonl"
    shutil.rmtree(metrics.parent, ignore_errors=True)
    child = subprocess.Popen(
        [sys.executable, "-c", case.code, *case.arguments],
        cwd=directory,
        env=_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    reached = not case.run or _wait_until(lambda: _is_written(metrics), child)
    if case.run and reached:
        child.kill()
    assert child.stderr is not None
    errors = child.stderr.read()
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if not reached or (child.returncode and not case.run):
        raise SystemExit(f"{case.name} failed:\n{errors}")
    return used.ru_utime + used.ru_stime


def _is_written(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _wait_until(happened: Callable[[], bool], child: "subprocess.Popen[str]") -> bool:
    """Whether something has happened before a process ended."""
    # The process is not waited for, so that its times can still be asked for.
    while os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if happened():
            return True
        time.sleep(0.005)
    return happened()


def print_table(chosen: Sequence[Case], repeats: int, directory: Path) -> None:
    """Measure and print, a row a case."""
    columns = ("CPU seconds", "min", "median", "/ python", "limit")
    print("{:26} {:>7} {:>7} {:>9}  {}".format(*columns))
    bare = None
    for case in chosen:
        cpu_seconds(case, directory)  # so that files are in the system's cache, and compiled
        taken = [cpu_seconds(case, directory) for _ in range(repeats)]
        least, median = min(taken), statistics.median(taken)
        bare = bare or least
        share = f"{least / bare:.0f} x"
        print(f"{case.name:26} {least:7.2f} {median:7.2f} {share:>9}  {case.limit}", flush=True)


def main() -> None:
    """Measure everything, or the cases whose names have a word."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="", help="a word of the names to measure")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made, TinkerServer(resolve_model(MODEL)) as server:
        every = cases(Path(made), server.url)
        chosen = [case for case in every if options.only in case.name or case is every[0]]
        print_table(chosen, options.repeats, Path(made))


if __name__ == "__main__":
    main()
