"""Damage the files of runs in many ways, resume the runs, and compare with an undamaged one.

    uv run python scripts/damage_harness.py
    uv run python scripts/damage_harness.py --cases 60

Two runs are damaged: one that was killed after a checkpoint, and one that is finished. In each case
one file or directory of a run is changed, the run is checked as by `retrain resume-check`, resumed,
and compared with the run that nothing was done to: all logs (times aside), the checkpoints, the
final adapter, the configuration and the metadata. Older checkpoints may be missing. The result is

    exact       nothing differs
    reported    something differs, and a line names what was damaged or changed
    refused     the run is not resumed, with one line
    traceback   an error that is not reported as one
    silent      something differs, and nothing was said

Exit code 1 if one of the last two occurs.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from damage_kinds import DIRECTORY_DAMAGE, FILE_DAMAGE, flip

from retrain_backends.__main__ import main as retrain
from retrain_backends.dotted_names import load_object
from retrain_backends.errors import RetrainError
from retrain_backends.tracking.journal import without_times
from retrain_backends.train.checks.resume_check import check_resume
from retrain_backends.train.checks.training_evidence import missing_evidence
from retrain_backends.train.storage.durable_writes import digest_of

OUTCOMES = ("exact", "reported", "refused", "traceback", "silent")
FLIPS = 8  # in each file
FOREIGN = "replace by that of another run"
UNCOMPARED = (".lock", "trainer_state.json", "state.json", "learning_curve.png", "output.txt")
FLAGS = {
    "backend": "fake",
    "backend-options": '{"vocab_size": 60, "positions": 3}',
    "reward-type": "harness_plugins:Parity",
    "model": "builtin:tiny-arithmetic",
    "data-source": "arithmetic",
    "data-prompt-template": "{question}",
    "lr": "0.3",
    "batch-size": "2",
    "group-size": "8",
    "max-tokens": "8",
    "temperature": "1.0",
    "max-steps": "9",
    "save-every": "2",
    "keep-last": "4",
    "no-keep-best": "",
    "eval-every": "3",
    "eval-max-examples": "4",
    "no-learning-curve": "",
}


@dataclass(frozen=True)
class Case:
    """A change of one file or directory of a run: its kind, and the path inside the run."""

    base: str
    path: str
    kind: str
    seed: int

    def __str__(self) -> str:
        return f"{self.base}: {self.kind} {self.path} ({self.seed})"


def main() -> None:
    """Damage and resume runs, and print the counts."""
    parser = argparse.ArgumentParser(description="Damage runs, resume them, compare.")
    parser.add_argument("--cases", type=int, default=0, help="a random sample; 0: all of them")
    parser.add_argument("--seed", type=int, default=0, help="of the damage and the sample")
    chosen = parser.parse_args()
    load_object("retrain_backends.train:train")  # once, not in every forked process
    load_object("retrain_backends.fake:FakeBackend")
    with tempfile.TemporaryDirectory(prefix="retrain-damage-") as directory:
        os.chdir(directory)
        bases = prepare(Path())
        whole = contents(bases["finished"])
        cases = [case for base in ("killed", "finished") for case in cases_of(base, bases[base])]
        if chosen.cases:
            cases = Random(chosen.seed).sample(cases, min(chosen.cases, len(cases)))
        counts = {kind: Counter[str]() for kind in ("killed", "finished")}
        for case in cases:
            result, text = outcome_of(case, bases, whole, chosen.seed)
            counts[case.base][result] += 1
            if result in ("traceback", "silent"):
                print(f"{result}: {case}\n{text}", flush=True)
    print(f"{'':10}{'cases':>8}" + "".join(f"{name:>12}" for name in OUTCOMES))
    for base, found in counts.items():
        print(f"{base:10}{found.total():8}" + "".join(f"{found[name]:12}" for name in OUTCOMES))
    sys.exit(any(found["traceback"] + found["silent"] for found in counts.values()))


def prepare(place: Path) -> dict[str, Path]:
    """A finished run, one killed after its checkpoint of step 8, and a run of another seed."""
    bases = {name: place / name / "run" for name in ("finished", "killed", "foreign")}
    for name, seed in (("finished", 7), ("foreign", 8)):
        code, said = in_child(train_flags(bases[name], seed), bases[name].parent)
        if weaknesses := [said] if code else missing_evidence(bases[name]):
            raise SystemExit(f"the undamaged run proves nothing: {'; '.join(weaknesses)}")
    killed = shutil.copytree(bases["finished"], bases["killed"])
    shutil.rmtree(killed / "final")
    shutil.rmtree(killed / "checkpoints/step_000009")
    shutil.copy(killed / "checkpoints/step_000008/state.json", killed / "trainer_state.json")
    return bases


def train_flags(run: Path, seed: int) -> list[str]:
    """The arguments that start a run."""
    flags = {**FLAGS, "seed": str(seed), "log-dir": str(run)}
    return [f"--{name}={value}" if value else f"--{name}" for name, value in flags.items()]


def cases_of(base: str, run: Path) -> Iterator[Case]:
    """Every damage of a run."""
    for path in sorted(run.rglob("*")):
        name = path.relative_to(run).as_posix()
        if path.is_dir():
            yield from (Case(base, name, kind, 0) for kind in DIRECTORY_DAMAGE)
        elif path.name != ".lock":
            yield from (Case(base, name, "flip a bit of", seed) for seed in range(FLIPS))
            yield from (Case(base, name, kind, 0) for kind in (*FILE_DAMAGE, FOREIGN))


def outcome_of(
    case: Case, bases: dict[str, Path], whole: dict[str, Any], seed: int
) -> tuple[str, str]:
    """Apply a damage, resume the run, and compare; returns the outcome and the output."""
    run = Path("case/run")
    shutil.rmtree(run.parent, ignore_errors=True)
    shutil.copytree(bases[case.base], run)
    random, path = Random(f"{seed} {case}"), run / case.path
    if case.kind == FOREIGN:
        shutil.copy(bases["foreign"] / case.path, path)
    elif path.is_dir():
        DIRECTORY_DAMAGE[case.kind](path, random)
    else:
        {**FILE_DAMAGE, "flip a bit of": flip}[case.kind](path, random)
    code, said = in_child([f"--resume={run}"], run.parent, checked=run)
    lines = said.splitlines()
    if "Traceback" in said:
        return "traceback", said
    if code:
        errors = [line for line in lines if line.startswith("error: ")]
        return ("refused" if errors and lines[-1] == errors[-1] else "traceback"), said
    found = contents(run)
    differing = [
        name
        for name in whole
        if found.get(name) != whole[name] and (name in found or not is_old_checkpoint(name))
    ]
    told = any(is_told(case, line) for line in lines)
    text = f"differing: {differing}\n{said}"
    return ("exact" if not differing else "reported" if told else "silent"), text


def is_old_checkpoint(name: str) -> bool:
    """Whether a file belongs to a checkpoint before the last one, which anybody may delete."""
    return name.startswith("checkpoints/") and not name.startswith("checkpoints/step_000009/")


def is_told(case: Case, line: str) -> bool:
    """Whether a line of the output names what the case has damaged, or the settings it changed."""
    if case.path == "config.toml":
        return line.startswith("changed: ")
    names = Path(case.path).parts
    return line.startswith("damaged: ") and any(name in line for name in names)


def in_child(arguments: list[str], place: Path, checked: Path | None = None) -> tuple[int, str]:
    """Run `python -m retrain_backends` in a forked process; its exit code and output."""
    place.mkdir(parents=True, exist_ok=True)
    output = place / "output.txt"
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), output.read_text()
    code = 70
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        if checked:
            check(checked)
        code = retrain(arguments)
    except BaseException:  # noqa: BLE001 - a border: the harness counts tracebacks
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def check(run: Path) -> None:
    """Check the run; any error but one of retrain's own is a traceback."""
    try:
        check_resume(run)
    except RetrainError:
        return


def contents(run: Path) -> dict[str, Any]:
    """Everything in a run that must not depend on damage, by path."""
    paths = (path for path in sorted(run.rglob("*")) if path.is_file())
    return {
        path.relative_to(run).as_posix(): content_of(path)
        for path in paths
        if path.name not in UNCOMPARED
    }


def content_of(path: Path) -> Any:
    """Rows without their times, metadata without its resumes, digests of all else."""
    if path.suffix == ".jsonl":
        return [row_of(line) for line in path.read_bytes().splitlines()]
    if path.name == "metadata.json":
        document = json.loads(path.read_text())
        return {key: document[key] for key in sorted({*document} - {"resumed", "digest"})}
    if path.name == "config.toml":
        lines = path.read_text().splitlines()
        return [line for line in lines if not line.startswith("log_dir")]
    return digest_of(path)


def row_of(line: bytes) -> Any:
    """A row without times, or a line that is none."""
    try:
        return without_times(json.loads(line))
    except (ValueError, AttributeError):
        return line


if __name__ == "__main__":
    main()
