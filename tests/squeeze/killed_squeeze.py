"""Kill the squeeze of an adapter at each of its changes of the file system, and repeat it.

    python killed_squeeze.py ADAPTER REFERENCE DIRECTORY new|existing

Prints, for each moment, the change that the process was killed before, and the exit code of the
second attempt, or what differs from REFERENCE after it.
"""

import filecmp
import os
import signal
import sys
from pathlib import Path

import retrain_squeeze.picture  # noqa: F401 - so that not each attempt imports it
from retrain_squeeze.__main__ import main

_CHANGES = ("open", "os.mkdir", "os.rename", "os.rmdir", "os.remove", "os.truncate")


def attempt(arguments: list[str], moment: int, report: Path) -> int:
    """Run the command in a process of its own, killed before a change; its wait status."""
    process = os.fork()
    if process:
        return os.waitpid(process, 0)[1]
    seen = 0

    def count(event: str, values: tuple[object, ...]) -> None:
        nonlocal seen
        if event not in _CHANGES or (event == "open" and values[1] in ("r", "rb", None)):
            return
        if seen == moment:
            os.write(changes, f"{event} {Path(str(values[0])).name}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)
        seen += 1

    changes = os.open(report, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.addaudithook(count)
    os._exit(main(arguments))


def differences(reference: Path, output: Path) -> str:
    names = {file.name for folder in (reference, output) for file in folder.iterdir()}
    _, different, missing = filecmp.cmpfiles(reference, output, names, shallow=False)
    return ",".join(different + missing) or "equal"


def run(adapter: str, reference: str, directory: str, kind: str) -> None:
    for moment in range(1000):
        place = Path(directory) / str(moment)
        output, report = place / "out", place / "killed_before"
        place.mkdir()
        if kind == "existing":
            output.mkdir()
        arguments = [adapter, "--output-path", str(output), "--compress-to", "2"]
        if attempt(arguments, moment, report) != signal.SIGKILL:
            return
        again = attempt(arguments, -1, report)
        left = sorted(
            file.name for file in place.iterdir() if file.name not in ("out", report.name)
        )
        result = differences(Path(reference), output) if again == 0 else f"status {again}"
        print(report.read_text().strip(), result, *left, sep=" | ")


run(*sys.argv[1:])
