"""Kill runs with SIGKILL at random moments, resume them, and compare with a run never killed.

    uv run python scripts/kill_harness.py --seeds 50
    uv run python scripts/kill_harness.py --seeds 12 --backend fake

A run is `python -m retrain_backends` in a separate process. Every seed draws the moments of one to
three kills: during sampling, scoring, training or saving (with half a file), at any opening,
renaming or deleting of a file in the run directory, or at any time. Afterwards all logs (times
aside), the remaining checkpoints and the final adapter must equal those of the undisturbed run,
byte for byte; and that run must have trained. Exit code 1 if anything differs.

    uv run python scripts/kill_harness.py --seeds 4 --backend fake --mutant Losing

shows that it can fail: the first update after each resume is lost (or done twice, `Doubling`).
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from harness_plugins import MUTANTS

from retrain_backends.tracking.journal import JOURNAL_FILES, read_rows, to_json, without_times
from retrain_backends.train.checks.training_evidence import missing_evidence
from retrain_backends.train.storage.durable_writes import digests_of

HERE = Path(__file__).parent
STAGES = {
    "sampling": ("sample",),
    "scoring": ("reward",),
    "training": ("train",),
    "saving": ("save", "export_adapter"),
    "renaming": ("files",),
    "any time": (),
}
SETTINGS: dict[str, dict[str, object]] = {
    "fake": {
        "backend": "killed_run:{}Fake",
        "backend-options": {"vocab_size": 60, "positions": 3},
        "reward-type": "killed_run:KillingParity",
        "lr": 0.3,
    },
    "local": {
        "backend": "killed_run:{}Local",
        "backend-options": {"threads": 1},
        "reward-type": "killed_run:KillingMatch",
        "lr": 0.001,
        "devices": "cpu",
        "lora-rank": 4,
    },
}
COMMON = {
    "model": "builtin:tiny-arithmetic",
    "data-source": "arithmetic",
    "data-prompt-template": "{question}",
    "seed": 7,
    "max-steps": 8,
    "batch-size": 2,
    "group-size": 8,
    "max-tokens": 24,
    "temperature": 1.0,
    "save-every": 2,
    "eval-every": 3,
    "eval-max-examples": 6,
    "log-dir": "run",
}


@dataclass(frozen=True)
class Undisturbed:
    """The run without kills: its outcome, its time, and the passages of each place."""

    outcome: dict[str, Any]
    time_s: float
    passages: dict[str, int]


def main() -> None:
    """Kill and resume runs, compare them, and print the result."""
    parser = argparse.ArgumentParser(description="Kill runs, resume them, compare.")
    parser.add_argument(
        "--seeds", type=int, default=50, help="number of seeds for the moments of kills"
    )
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--backend", choices=SETTINGS, default="local")
    parser.add_argument("--mutant", choices=MUTANTS, default="Killing")
    parser.add_argument("--jobs", type=int, default=1, help="number of seeds at once")
    chosen = parser.parse_args()
    settings = SETTINGS[chosen.backend]
    settings["backend"] = str(settings["backend"]).format(chosen.mutant)
    wrong, kills = [], Counter[str]()
    with tempfile.TemporaryDirectory(prefix="retrain-kill-") as directory:
        whole = undisturbed(Path(directory) / "whole", chosen.backend)
        print(f"undisturbed: {whole.time_s:.1f} s, passages {whole.passages}", flush=True)
        seeds = range(chosen.first, chosen.first + chosen.seeds)
        with ThreadPoolExecutor(chosen.jobs) as pool:
            outcomes = pool.map(
                lambda seed: disturbed(Path(directory), chosen.backend, seed, whole), seeds
            )
            for seed, (done, differing) in zip(seeds, outcomes, strict=True):
                print(f"seed {seed}: {'; '.join(done)}: {differing or 'same'}", flush=True)
                kills.update(name.split(",")[0] for name in done)
                wrong += [seed] if differing else []
    print(f"{chosen.seeds} seeds, {sum(kills.values())} kills: {dict(kills)}")
    print(f"differing: {wrong or 'none'}")
    sys.exit(bool(wrong))


def undisturbed(place: Path, backend: str) -> Undisturbed:
    """Execute the run without kills."""
    prepare(place)
    started = time.monotonic()
    process = start(place, backend)
    wait_for(place / "run/config.toml", process)
    began = time.monotonic()
    if process.wait():
        raise SystemExit(f"the undisturbed run failed after {began - started:.1f} s: {said(place)}")
    if weaknesses := missing_evidence(place / "run"):
        raise SystemExit(f"the undisturbed run proves nothing: {'; '.join(weaknesses)}")
    passages = json.loads((place / "counts.json").read_text())
    return Undisturbed(outcome_of(place / "run"), time.monotonic() - began, passages)


def disturbed(
    directory: Path, backend: str, seed: int, whole: Undisturbed
) -> tuple[list[str], list[str]]:
    """Execute the run with kills; return the kills, and the differences to the undisturbed run."""
    place = directory / f"seed_{seed}"
    prepare(place)
    random = Random(seed)
    stages = [
        list(STAGES)[seed % len(STAGES)],
        *random.choices(list(STAGES), k=random.randint(0, 2)),
    ]
    tried = [(stage, kill_once(place, backend, draw(stage, random, whole))) for stage in stages]
    done = [f"{stage}, {how}" for stage, how in tried if how]
    if start(place, backend).wait():
        return done, [f"failed: {said(place)}"]
    outcome = outcome_of(place / "run")
    shutil.rmtree(place)
    both = {**whole.outcome, **outcome}
    return done, [key for key in both if outcome.get(key) != whole.outcome.get(key)]


def draw(stage: str, random: Random, whole: Undisturbed) -> dict[str, Any]:
    """One kill at the stage: a plan for the process, or a delay after which to kill it."""
    if not STAGES[stage]:
        return {"delay_s": random.uniform(0, 0.9 * whole.time_s)}
    place = random.choice(STAGES[stage])
    return {
        "place": place,
        "passage": random.randint(1, whole.passages[place]),
        "moment": random.choice(("before", "during", "after")),
    }


def kill_once(place: Path, backend: str, plan: dict[str, Any]) -> str:
    """Resume the run until it is killed; return the kill, or nothing if the run ended before."""
    if "delay_s" not in plan:
        (place / "plan.json").write_text(json.dumps(plan))
    process = start(place, backend)
    if "delay_s" in plan:
        wait_for(place / "run/config.toml", process)
        time.sleep(plan["delay_s"])
        process.kill()
    code = process.wait()
    if code > 0:
        raise SystemExit(f"the run failed with exit code {code}: {said(place)}")
    if code == 0:
        return ""
    return ", ".join(
        f"{key} {value:.3g}" if key == "delay_s" else f"{value}" for key, value in plan.items()
    )


def start(place: Path, backend: str) -> subprocess.Popen[bytes]:
    """Start the run, or resume it if it has been started."""
    flags = {**COMMON, **SETTINGS[backend]}
    if (place / "run/config.toml").exists():
        flags["resume"] = "run"
    command = [sys.executable, "-m", "retrain_backends", "run.toml"]
    command += [f"--{k}={json.dumps(v) if isinstance(v, dict) else v}" for k, v in flags.items()]
    with (place / "output.txt").open("ab") as output:
        return subprocess.Popen(command, cwd=place, stdout=output, stderr=output)


def prepare(place: Path) -> None:
    """Create a working directory with the classes that kill."""
    place.mkdir()
    (place / "run.toml").touch()
    for plugins in ("killed_run.py", "harness_plugins.py"):
        shutil.copy(HERE / plugins, place)


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until the file exists, or the process has ended."""
    while not path.exists() and process.poll() is None:
        time.sleep(0.005)


def said(place: Path) -> str:
    """The last line of the run's output."""
    return (place / "output.txt").read_text(errors="replace").strip().split("\n")[-1]


def outcome_of(run: Path) -> dict[str, Any]:
    """All results that must not depend on kills."""
    logs = [run / name for name in JOURNAL_FILES] + sorted(run.glob("eval/*.jsonl"))
    rows = {
        str(p.relative_to(run)): [to_json(without_times(r)) for r in read_rows(p)] for p in logs
    }
    files = {
        f"{directory.parent.name}/{directory.name}/{name}": digest
        for directory in [run / "final", *(run / "checkpoints").iterdir()]
        for name, digest in digests_of(directory).items()
        if not name.endswith("state.json")  # has the lengths of the logs, which depend on times
    }
    return rows | files


if __name__ == "__main__":
    main()
