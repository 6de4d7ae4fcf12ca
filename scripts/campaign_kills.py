"""Kill the workers and the controller of campaigns at random moments, resume, and compare.

    uv run python scripts/campaign_kills.py --kills 50
    uv run python scripts/campaign_kills.py --kills 12 --backend fake --first 3

A campaign is `python -m retrain_campaign` with two workers. A process is killed after the runs have
logged a random number of further steps, which may be 0. The campaign is resumed until every run has
finished; then each run must have exactly one directory, whose logs (times aside), checkpoints and
adapters equal those of the same campaign executed sequentially without kills, byte for byte. If a
campaign ends before all kills, or if no run had to resume from a checkpoint, another one is
started; with `--kills 0` one campaign is executed without kills. Exit code 1 if anything differs.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import psutil
from harness_plugins import MUTANTS
from kill_harness import outcome_of

from retrain_backends.train.checks.training_evidence import missing_evidence
from retrain_campaign.storage.campaign_directory import is_campaign
from retrain_campaign.storage.manifest_reader import read_manifest

FILE = """\
[model]
model = "builtin:tiny-arithmetic"
lora_rank = 4

[backend]
backend = "{backend}"
devices = "cpu"

[backend.options]
{options}

[data]
source = "arithmetic"
prompt_template = "{{question}}"

[training]
batch_size = 2
group_size = 4
max_tokens = 16
temperature = 1.0
lr = {lr}
save_every = {save_every}

[reward]
type = "{reward}"

[logging]
learning_curve = false

[eval]
every = {eval_every}
max_examples = 4

[campaign]
seeds = [1, 2]
max_steps = {steps}
max_workers = 2

[[campaign.conditions]]
advantage_mode = "grpo"
transform_mode = "none"

[[campaign.conditions]]
advantage_mode = "maxrl"
transform_mode = "gtpo_sepa"
sepa.steps = 10
"""
SETTINGS: dict[str, dict[str, object]] = {
    "fake": {
        "lr": 0.3,
        "steps": 60,
        "save_every": 5,
        "eval_every": 25,
        "reward": "harness_plugins:Parity",
        "options": "vocab_size = 60",
    },
    "local": {
        "lr": 0.001,
        "steps": 12,
        "save_every": 3,
        "eval_every": 6,
        "reward": "match",
        "options": "",
    },
}
DIRECTORY = Path("campaign")
MOST_STEPS = 16  # logged between two kills
MOST_KILLS = 8  # of a further campaign, if none has had a run resumed
PATIENCE_S = 900.0  # until a campaign must have ended


def main() -> None:
    """Kill and resume campaigns, compare them, and print the result."""
    parser = argparse.ArgumentParser(description="Kill campaigns, resume them, compare.")
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--first", type=int, default=0, help="the first seed of kill times")
    parser.add_argument("--backend", choices=SETTINGS, default="fake")
    parser.add_argument("--mutant", choices=MUTANTS, help="of the fake backend, to see it fail")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="retrain-campaign-kill-") as directory:
        whole_place = prepare(Path(directory) / "whole", chosen)
        started = time.monotonic()
        if start(whole_place, "--no-campaign-parallel").wait(PATIENCE_S):
            raise SystemExit(f"the undisturbed campaign failed: {said(whole_place)}")
        whole = results_of(whole_place)
        for run in (whole_place / DIRECTORY / "runs").iterdir():
            if weaknesses := missing_evidence(run):
                raise SystemExit(f"{run.name} proves nothing: {'; '.join(weaknesses)}")
        print(f"undisturbed: {time.monotonic() - started:.1f} s", flush=True)
        kills, resumes, wrong, seed = Counter[str](), 0, [], chosen.first
        while seed == chosen.first or (chosen.kills and (left(chosen, kills) or not resumes)):
            place = prepare(Path(directory) / f"seed_{seed}", chosen)
            done = disturbed(place, Random(seed), left(chosen, kills) or MOST_KILLS)
            kills += done
            resumes += resumes_of(place)
            found = results_of(place)
            differing = [k for k in {**whole, **found} if whole.get(k) != found.get(k)]
            print(f"seed {seed}: {dict(done)}: {differing or 'same'}", flush=True)
            wrong += [seed] if differing else []
            seed += 1
    print(f"{kills.total()} kills: {dict(kills)}; {resumes} resumes from a checkpoint")
    print(f"differing: {wrong or 'none'}")
    sys.exit(bool(wrong))


def left(chosen: argparse.Namespace, kills: Counter[str]) -> int:
    """How many kills are left."""
    return max(0, chosen.kills - kills.total())


def resumes_of(place: Path) -> int:
    """How often a run was resumed from a checkpoint with steps left to train."""
    found = (place / DIRECTORY).glob("runs/*/metadata.json")
    resumed = (section for path in found for section in read_sections(path))
    steps = max(entry.max_steps for entry in read_manifest(place / DIRECTORY).runs)
    return sum(section["after_steps"] < steps for section in resumed)


def read_sections(metadata: Path) -> list[dict[str, Any]]:
    """The section of each resume in a run's metadata."""
    return json.loads(metadata.read_text(encoding="utf-8")).get("resumed", [])


def disturbed(place: Path, random: Random, kills: int) -> Counter[str]:
    """Run a campaign to its end with at most `kills` kills; return their number by victim."""
    done = Counter[str]()
    controller = start(place)
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if done.total() < kills:
            code = wait_for_steps(controller, place, random.randint(0, MOST_STEPS))
        else:
            code = controller.wait(PATIENCE_S)
        if code is None:
            if random.random() < 0.5:
                done["worker"] += kill_worker(place, random)
                continue
            controller.kill()
            done["controller"] += 1
            code = controller.wait()
        if code == 0:
            return done
        if code not in (1, -signal.SIGKILL):  # 1: a run was killed more often than it is retried
            raise SystemExit(f"the campaign failed with exit code {code}: {said(place)}")
        controller = start(place)
    raise SystemExit(f"the campaign did not end within {PATIENCE_S:g} s: {said(place)}")


def wait_for_steps(controller: subprocess.Popen[bytes], place: Path, more: int) -> int | None:
    """Wait until the runs have logged so many steps more; the exit code if the campaign ended."""
    enough = steps_logged(place) + more
    while (code := controller.poll()) is None and steps_logged(place) < enough:
        time.sleep(0.02)
    return code


def steps_logged(place: Path) -> int:
    """Rows of all runs."""
    logs = (place / DIRECTORY).glob("runs/*/metrics.jsonl")
    return sum(log.read_bytes().count(b"\n") for log in logs)


def kill_worker(place: Path, random: Random) -> bool:
    """Kill one of the running workers; False if there is none."""
    if not is_campaign(place / DIRECTORY):
        return False
    entries = read_manifest(place / DIRECTORY).runs
    pids = [e.pid for e in entries if e.status == "running" and e.pid and is_alive(e.pid)]
    if not pids:
        return False
    # It may have ended by itself just now.
    with contextlib.suppress(ProcessLookupError):
        os.kill(random.choice(pids), signal.SIGKILL)
    return True


def is_alive(pid: int) -> bool:
    """Whether there is such a process, and it has not ended."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def start(place: Path, *flags: str) -> subprocess.Popen[bytes]:
    """Start the campaign, or resume it if it has been started."""
    begun = is_campaign(place / DIRECTORY)
    what = [str(DIRECTORY)] if begun else ["c.toml", f"--campaign-directory={DIRECTORY}"]
    if not begun and (place / DIRECTORY).exists():
        (place / DIRECTORY).rename(place / f"never_begun_{time.monotonic_ns()}")
    command = [sys.executable, "-m", "retrain_campaign", *what, *(flags or ["--campaign-parallel"])]
    output = place / "output.txt"
    with output.open("ab") as file:
        size = output.stat().st_size
        process = subprocess.Popen(command, cwd=place, stdout=file, stderr=file)
    while output.stat().st_size == size and process.poll() is None:
        time.sleep(0.02)  # until its imports are done and the campaign is open
    return process


def prepare(place: Path, chosen: argparse.Namespace) -> Path:
    """Create a working directory with the file of the campaign."""
    place.mkdir()
    shutil.copy(Path(__file__).with_name("harness_plugins.py"), place)
    backend = f"harness_plugins:{chosen.mutant}Fake" if chosen.mutant else chosen.backend
    (place / "c.toml").write_text(FILE.format(backend=backend, **SETTINGS[chosen.backend]))
    return place


def results_of(place: Path) -> dict[str, Any]:
    """By directory, the state of each run and its results that must not depend on kills."""
    states = {entry.run_dir: entry.status for entry in read_manifest(place / DIRECTORY).runs}
    directories = {f"runs/{path.name}": path for path in (place / DIRECTORY / "runs").iterdir()}
    return {
        name: (states.get(name), outcome_of(path) if name in states else None)
        for name, path in directories.items()
    }


def said(place: Path) -> str:
    """The last lines of the campaign's output."""
    return "\n".join((place / "output.txt").read_text(errors="replace").split("\n")[-12:])


if __name__ == "__main__":
    main()
