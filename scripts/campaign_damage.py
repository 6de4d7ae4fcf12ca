"""Damage the directories of campaigns, resume them, and count how the damage was met.

    uv run python scripts/campaign_damage.py --cases 200
    uv run python scripts/campaign_damage.py --cases 12 --first 1000

A case is a copy of a campaign, finished or killed, in which one file of the manifest, the
configuration or a run was changed: a flipped bit, a truncation, a deletion, a file renamed or
emptied. Then `retrain campaign DIR` resumes it, and `compare` reads it. Outcomes:

    exact      every run ends as in the undamaged campaign, and so does the comparison
    reported   a line names the damage; what was lost is repeated, or missing from the comparison
    refused    one line, exit code 2
    traceback  of the campaign, or of a run
    silent     the results differ, and nothing was said

Exit code 1 if there is a case of the last two. Completions and weights are not damaged here: a
campaign does not read them; `scripts/damage_harness.py` damages single runs.
"""

import argparse
import contextlib
import io
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import psutil
from rich.console import Console

from retrain_backends.tracking.journal import read_rows, without_times
from retrain_campaign.__main__ import main as retrain_campaign
from retrain_campaign.report.compare import compare, comparison_table, missing_lines
from retrain_campaign.report.status import scan
from retrain_campaign.report.status_tables import render
from retrain_campaign.storage.manifest_reader import read_manifest

FILE = """\
[model]
model = "builtin:tiny-arithmetic"

[backend]
backend = "fake"

[data]
source = "arithmetic"
prompt_template = "{question}"

[training]
batch_size = 2
group_size = 4
max_tokens = 8
lr = 0.3
save_every = 4

[reward]
type = "harness_plugins:Parity"

[eval]
every = 4
max_examples = 4

[logging]
learning_curve = false

[campaign]
seeds = [1, 2]
max_steps = 8

[[campaign.conditions]]
advantage_mode = "grpo"
transform_mode = "none"

[[campaign.conditions]]
advantage_mode = "maxrl"
transform_mode = "none"
"""
OUTCOMES = ("exact", "reported", "refused", "traceback", "silent")
RUN_FILES = ("config.toml", "metrics.jsonl", "eval.jsonl", "trainer_state.json", "final", ".")
CAMPAIGN_FILES = ("manifest.json", "manifest.log", "campaign.toml")
PATIENCE_S = 900.0


def flip(path: Path, random: Random) -> str:
    """Flip one bit."""
    data = bytearray(path.read_bytes())
    position = random.randrange(len(data))
    data[position] ^= 1 << random.randrange(8)
    path.write_bytes(data)
    return f"bit flipped in byte {position}"


def truncate(path: Path, random: Random) -> str:
    """Cut a file off at any length, which may be 0."""
    size = random.choice((0, random.randrange(path.stat().st_size)))
    with path.open("r+b") as file:
        file.truncate(size)
    return f"truncated to {size} bytes"


def delete(path: Path, _: Random) -> str:
    """Delete a file or a directory."""
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    return "deleted"


def rename(path: Path, _: Random) -> str:
    """Rename a file or a directory."""
    path.rename(path.with_name(f"{path.name}.old"))
    return "renamed"


FOR_FILES: tuple[Callable[[Path, Random], str], ...] = (flip, flip, flip, truncate, delete, rename)
FOR_DIRECTORIES = (delete, rename)


def main() -> None:
    """Damage campaigns, resume them, and print the counts."""
    parser = argparse.ArgumentParser(description="Damage campaigns, resume them, count.")
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    chosen = parser.parse_args()
    counts = Counter[str]()
    with tempfile.TemporaryDirectory(prefix="retrain-campaign-damage-") as name:
        place = Path(name)
        shutil.copy(Path(__file__).with_name("harness_plugins.py"), place)
        (place / "c.toml").write_text(FILE)
        with contextlib.chdir(place):
            whole = finished_campaign(Path("whole"))
            killed_campaign(Path("killed"))
            for seed in range(chosen.first, chosen.first + chosen.cases):
                outcome, line = case(Random(seed), whole)
                counts[outcome] += 1
                print(f"seed {seed}: {line}: {outcome}", flush=True)
    print(", ".join(f"{counts[outcome]} {outcome}" for outcome in OUTCOMES))
    sys.exit(bool(counts["traceback"] or counts["silent"]))


def finished_campaign(directory: Path) -> dict[str, Any]:
    """Run a campaign to its end; return its results."""
    code, said = resume("c.toml", f"--campaign-directory={directory}")
    if code:
        raise SystemExit(f"the undamaged campaign failed: {said}")
    return results_of(directory)


def killed_campaign(directory: Path) -> None:
    """Kill a campaign and its worker after its first run."""
    command = [sys.executable, "-m", "retrain_campaign", "c.toml"]
    process = subprocess.Popen(
        [*command, f"--campaign-directory={directory}"],
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + PATIENCE_S
    while not (workers := workers_after_the_first_run(directory)):
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit("the campaign to kill ended by itself")
        time.sleep(0.02)
    process.kill()
    process.wait()
    for pid in workers:
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).send_signal(signal.SIGKILL)
            psutil.wait_procs([psutil.Process(pid)], PATIENCE_S)


def workers_after_the_first_run(directory: Path) -> list[int]:
    """The pids of running workers once a run is done."""
    if not (directory / "manifest.json").exists():
        return []
    entries = read_manifest(directory).runs
    done = any(entry.status == "done" for entry in entries)
    return [entry.pid for entry in entries if done and entry.status == "running" and entry.pid]


def case(random: Random, whole: dict[str, Any]) -> tuple[str, str]:
    """Damage a copy of a campaign and resume it; return the outcome, and what was done."""
    base, copy = Path(random.choice(("whole", "killed"))), Path("copy")
    shutil.copytree(base, copy)
    path, what = damage(copy, random)
    line = f"{base}: {path.relative_to(copy)} {what}"
    outputs = copy.glob("runs/*/output.log")
    before = {output: output.stat().st_size for output in outputs}
    try:
        shown = shown_by(lambda: render(scan(copy)))
        code, said = resume(str(copy))
        found = {} if code == 2 else results_of(copy)
        said += shown + ("" if code == 2 else compared(copy))
    except Exception:  # noqa: BLE001
        shutil.move(copy, f"kept_{time.monotonic_ns()}")
        return "traceback", f"{line}\n{traceback.format_exc()}"
    runs = "".join(new_output(output, before) for output in copy.glob("runs/*/output.log"))
    shutil.rmtree(copy)
    outcome = outcome_of_case(code, said, runs, exact=found == whole)
    return outcome, line if outcome in OUTCOMES[:3] else f"{line}\n{said}\n{runs}"


def outcome_of_case(code: int, said: str, runs: str, *, exact: bool) -> str:
    """The outcome of a case, by what was said and by whether the results are the same."""
    if "Traceback" in said + runs:
        return "traceback"
    if code == 2:
        return "refused"
    if any(line for line in said.splitlines() if names_damage(line)):
        return "reported"
    return "exact" if exact and code == 0 else "silent"


def names_damage(line: str) -> bool:
    """Whether a line of the campaign says that something was wrong."""
    words = ("damaged", "is missing", "gone", "is repeated", " changed", "failed:")
    return any(word in line for word in words)


def damage(campaign: Path, random: Random) -> tuple[Path, str]:
    """Damage one file or directory; return it, and how."""
    run = random.choice(sorted((campaign / "runs").iterdir()))
    paths = [campaign / name for name in CAMPAIGN_FILES for _ in range(3)]
    paths += [run / name for name in RUN_FILES]
    path = random.choice([path for path in paths if path.exists()])
    kinds = FOR_DIRECTORIES if path.is_dir() else FOR_FILES
    return path, random.choice(kinds)(path, random)


def resume(*words: str) -> tuple[int, str]:
    """The exit code and the output of `python -m retrain_campaign`, in this process."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = retrain_campaign(words)
    return code, said.getvalue()


def results_of(campaign: Path) -> dict[str, Any]:
    """What must not depend on damage that was mended: statuses, rows and the comparison."""
    entries = read_manifest(campaign).runs
    rows = {
        f"{entry.name}/{name}": rows_of(path)
        for entry in entries
        for name in ("metrics.jsonl", "eval.jsonl")
        if (path := campaign / entry.run_dir / name).exists()
    }
    statuses = {entry.name: entry.status for entry in entries}
    return {"statuses": statuses, "comparison": compared(campaign)} | rows


def rows_of(path: Path) -> list[Any]:
    """The rows of a log without times; its text if it is damaged."""
    try:
        return [without_times(row) for row in read_rows(path)]
    except (ValueError, AttributeError):
        return [path.read_bytes()]


def compared(campaign: Path) -> str:
    """The comparison as it is printed."""
    comparison = compare(campaign)
    return shown_by(lambda: comparison_table(comparison)) + "\n".join(missing_lines(comparison))


def shown_by(make: Callable[[], Any]) -> str:
    """What is shown on a console of 200 columns."""
    console = Console(width=200, file=io.StringIO())
    with console.capture() as capture:
        console.print(make())
    return capture.get()


def new_output(output: Path, before: dict[Path, int]) -> str:
    """What a run has printed since."""
    return output.read_bytes()[before.get(output, 0) :].decode(errors="replace")


if __name__ == "__main__":
    main()
