"""Give damaged and hostile input to the commands, and check how each is answered.

    uv run python scripts/input_harness.py --seed 1
    uv run python scripts/input_harness.py --seed 1 --share 0.05 --group flags --group keys

A command accepts its input, or refuses it: exit code 2 (1 where a run or a download failed), at
least one line that starts with `error:`, each of them short and printable, and among them one that
names the key, flag or file. A case fails with a traceback, another exit code, a signal, or no end
within `--limit` seconds; if it is known to be wrong and is accepted; or if it is known to be right
and is refused.

The cases are drawn from the seed, by the modules of `hostile_input/`. They run in forked processes
that call the command line's main function, a batch in each. A sample (`--real`) is repeated in
processes of their own. Exit code 1 if a case fails.
"""

import argparse
import faulthandler
import io
import json
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

from hostile_input.adapters import adapters
from hostile_input.campaigns import campaigns
from hostile_input.case import Case, Generator, Special
from hostile_input.command_lines import environment, flags, words
from hostile_input.configurations import damaged_files, starts, tables, values_of_keys
from hostile_input.data_files import data, models
from hostile_input.directories import directories_of_campaigns, directories_of_runs
from hostile_input.fixtures import make_fixtures
from hostile_input.places import places
from hostile_input.verdict import Outcome, answer_of, problem_of

os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", COLUMNS="200", TERM="dumb")

_COMMAND = [sys.executable, "-c", "from retrain_cli.app import main; main()"]
_LOADED = (
    *("retrain_cli.app", "retrain_backends.train", "retrain_squeeze.run", "datasets"),
    *("retrain_backends.train.checks.explain", "retrain_backends.data.hub"),
    *("retrain_backends.fake", "retrain_campaign.report.status", "retrain_campaign.explain"),
    "retrain_campaign.command",
)
_BATCH = 100
_MEMORY = 16 * 2**30  # bytes of address space
_OUTPUT_READ = 200_000
_SHOWN = 3  # failures of a kind that are printed
GROUPS: Mapping[str, Generator] = {
    "files": damaged_files,
    "keys": values_of_keys,
    "tables": tables,
    "flags": flags,
    "words": words,
    "environment": environment,
    "campaigns": campaigns,
    "starts": starts,
    "data": data,
    "models": models,
    "adapters": adapters,
    "directories of runs": directories_of_runs,
    "directories of campaigns": directories_of_campaigns,
    "places": places,
}


def main() -> None:
    """Run the cases and print the counts of each group."""
    parser = argparse.ArgumentParser(description="Give damaged and hostile input to the commands.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=1.0, help="share of the cases to run")
    parser.add_argument("--group", action="append", choices=GROUPS, help="only this group")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds for a case")
    parser.add_argument("--real", type=float, default=0.01, help="share in processes of their own")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="retrain-input-") as directory:
        place = Path(directory)
        make_fixtures(place / "fixtures", _COMMAND)
        for module in _LOADED:
            __import__(module)
        tried = failed = 0
        for group in chosen.group or GROUPS:
            cases = _cases(group, chosen.seed, chosen.share, place)
            real = Random(chosen.seed).sample(cases, round(chosen.real * len(cases)))
            failed += _run_group(cases, place, chosen.limit) + _run_real(real, place, chosen.limit)
            tried += len(cases) + len(real)
    print(f"{tried} cases tried, {failed} failed")
    sys.exit(bool(failed))


def _cases(group: str, seed: int, share: float, place: Path) -> list[Case]:
    random = Random(f"{seed} {group}")
    found = list(GROUPS[group](random, place / "fixtures"))
    return random.sample(found, max(1, round(share * len(found)))) if share < 1 else found


def _run_group(cases: Sequence[Case], place: Path, limit_s: float) -> int:
    """Run the cases in forked processes; print the counts; return the number of failures."""
    answers, problems = Counter[str](), Counter[str]()
    for case, outcome in _outcomes(cases, place, limit_s):
        problem = problem_of(case, outcome)
        answers["FAILED" if problem else answer_of(outcome)] += 1
        problems[problem] += bool(problem)
        if problem and problems[problem] <= _SHOWN:
            print(_described(case, outcome, problem), flush=True)
    print(f"{cases[0].group}: {len(cases)} cases, {dict(sorted(answers.items()))}", flush=True)
    return problems.total()


def _outcomes(cases: Sequence[Case], place: Path, limit_s: float) -> Iterator[tuple[Case, Outcome]]:
    """Each case with its outcome; a batch whose process dies or hangs continues in another."""
    fork, done = get_context("fork"), 0
    while done < len(cases):
        batch = cases[done : done + _BATCH]
        receiver, sender = fork.Pipe(duplex=False)
        process = fork.Process(target=_execute, args=(batch, done, place, limit_s, sender))
        process.start()
        sender.close()
        for case in batch:
            done += 1
            received = None
            with suppress(EOFError):
                received = receiver.recv() if receiver.poll(limit_s) else None
            if received is not None:
                yield case, Outcome(*received)
                continue
            alive = process.is_alive()
            with suppress(ProcessLookupError):
                os.killpg(process.pid or 0, signal.SIGKILL)
            process.join()
            where = (place / "hang").read_text()
            yield case, Outcome(None if alive else process.exitcode, "", where)
            break
        else:
            process.join(limit_s)
        with suppress(ProcessLookupError):
            os.killpg(process.pid or 0, signal.SIGKILL)
        process.join()


def _execute(
    batch: Sequence[Case], first: int, place: Path, limit_s: float, sender: Connection
) -> None:
    """In the forked process: run each case and send its outcome."""
    os.setsid()
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    environment = dict(os.environ)
    modules = set(sys.modules)
    for number, case in enumerate(batch, start=first):
        directory = place / f"{case.group} {number}"
        prepare(case, directory, place / "fixtures")
        os.chdir(directory)
        os.environ.update(case.environment)
        with (place / "hang").open("w") as file:
            faulthandler.dump_traceback_later(0.9 * limit_s, file=file)
            sender.send(_call_main(case.arguments, place))
            faulthandler.cancel_dump_traceback_later()
        os.chdir(place)
        os.environ.clear()
        os.environ.update(environment)
        for name in [name for name in sys.modules if name not in modules and "hostile" in name]:
            del sys.modules[name]
        shutil.rmtree(directory, ignore_errors=True)


def _call_main(arguments: Sequence[str], place: Path) -> tuple[int, str, str]:
    from retrain_cli.app import main as command  # noqa: PLC0415 - after the fork

    paths = [place / "stdout", place / "stderr"]
    saved = [os.dup(1), os.dup(2)]
    for number, path in enumerate(paths, start=1):
        with path.open("wb") as file:
            os.dup2(file.fileno(), number)
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(io.FileIO(number, "w", closefd=False), "utf-8", "backslashreplace")
        for number in (1, 2)
    )
    code = 0
    try:
        command(list(arguments))
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 - what a user would see
        traceback.print_exc()
        code = 1
    sys.stdout.close()
    sys.stderr.close()
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    for number, descriptor in enumerate(saved, start=1):
        os.dup2(descriptor, number)
        os.close(descriptor)
    output, errors = (path.read_text(errors="replace")[-_OUTPUT_READ:] for path in paths)
    return code, output, errors


def _run_real(cases: Sequence[Case], place: Path, limit_s: float) -> int:
    """Run the cases in processes of their own; returns the number of failures."""
    failed = 0
    for number, case in enumerate(cases):
        if any("\0" in word for word in [*case.arguments, *case.environment.values()]):
            continue
        directory = place / f"real_{number}"
        prepare(case, directory, place / "fixtures")
        try:
            done = subprocess.run(
                [*_COMMAND, *case.arguments],
                cwd=directory,
                env={**os.environ, **case.environment},
                capture_output=True,
                text=True,
                errors="replace",
                timeout=limit_s,
                check=False,
            )
            outcome = Outcome(done.returncode, done.stdout, done.stderr)
        except subprocess.TimeoutExpired:
            outcome = Outcome(None, "", "")
        if problem := problem_of(case, outcome):
            failed += 1
            print(_described(case, outcome, f"as a process: {problem}"))
        shutil.rmtree(directory, ignore_errors=True)
    return failed


def prepare(case: Case, directory: Path, fixtures: Path) -> None:
    """Make the working directory of a case."""
    directory.mkdir()
    if case.copied:
        shutil.copytree(fixtures / case.copied, directory / case.copied)
    for name, content in case.files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif path.is_dir():
            shutil.rmtree(path)
        _make(path, content)


def _make(path: Path, content: bytes | Special) -> None:
    match content:
        case bytes():
            path.write_bytes(content)
        case Special.ABSENT:
            pass
        case Special.DIRECTORY:
            path.mkdir()
        case Special.FIFO:
            os.mkfifo(path)
        case Special.LOOP:
            path.symlink_to(path.name)
        case Special.DEVICE:
            path.symlink_to("/dev/zero")
        case Special.UNREADABLE:
            path.symlink_to("/proc/self/mem")
        case Special.SOCKET:
            os.mknod(path, stat.S_IFSOCK | 0o600)


def _described(case: Case, outcome: Outcome, problem: str) -> str:
    words = json.dumps([word[:200] for word in case.arguments])
    said = outcome.errors.strip()[-600:] or outcome.output.strip()[-300:]
    return f"--- {case.group}, {case.name[:200]}: {problem}\nretrain {words}\n{said}\n"


if __name__ == "__main__":
    main()
