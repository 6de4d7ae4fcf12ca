"""A job on the machine that a cluster chose for it.

The directory of its run, which all machines see, is where it is told to stop and says where it is.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil

from retrain_backends.atomic import write_atomically
from retrain_campaign.executors.protocol import Job, Worker

_LOOK_S = 0.5
_INTERRUPTED = 130


class Mailbox:
    """Files in a run's directory, between its campaign and its worker."""

    def __init__(self, directory: Path) -> None:
        self._interrupt = directory / ".interrupt"
        self._kill = directory / ".kill"
        self._placed = directory / ".worker.json"

    def clear(self) -> None:
        """Before a worker is asked for."""
        for path in (self._interrupt, self._kill, self._placed):
            path.unlink(missing_ok=True)

    def interrupt(self) -> None:
        """Have the worker end after its checkpoint."""
        self._interrupt.touch()

    def kill(self) -> None:
        """Have the worker end at once."""
        self._kill.touch()

    def signals(self) -> list[signal.Signals]:
        """What the worker is to be sent, now and at every look."""
        asked = ((self._kill, signal.SIGKILL), (self._interrupt, signal.SIGINT))
        return [number for path, number in asked if path.exists()]

    def note(self, pid: int, started: float) -> None:
        """Say where the worker is."""
        place = {"host": socket.gethostname(), "pid": pid, "pid_started": started}
        write_atomically(self._placed, json.dumps(place))

    def worker(self, job: str) -> Worker | None:
        """Where the worker of the cluster's `job` is; None before it has begun."""
        try:
            return Worker(**json.loads(self._placed.read_text(encoding="utf-8")), job=job)
        except FileNotFoundError:
            return None


class RemoteRun:
    """Calling it does the job, here, and returns the exit code."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._child: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        """Start the command with this machine's own Python, and wait for it."""
        job, mailbox = self._job, Mailbox(self._job.output.parent)
        if mailbox.signals():
            return _INTERRUPTED
        launch = [sys.executable, "-m", "retrain_campaign.executors.launch", str(os.getpid())]
        with job.output.open("ab") as output:
            child = self._child = subprocess.Popen(
                [*launch, sys.executable, *job.command[1:]],
                cwd=job.directory,
                env={**os.environ, **job.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        mailbox.note(child.pid, psutil.Process(child.pid).create_time())
        interrupted = False
        while (code := _wait(child, _LOOK_S)) is None:
            for number in mailbox.signals():
                if number != signal.SIGINT or not interrupted:  # a second Ctrl-C would not wait
                    child.send_signal(number)
                interrupted = True
        return code

    def interrupt(self, patience_s: float) -> None:
        """Have the command end after its checkpoint, and wait for that, so long at most."""
        if self._child:
            self._child.send_signal(signal.SIGINT)
            _wait(self._child, patience_s)


def _wait(child: subprocess.Popen[bytes], timeout_s: float) -> int | None:
    try:
        return child.wait(timeout_s)
    except subprocess.TimeoutExpired:
        return None
