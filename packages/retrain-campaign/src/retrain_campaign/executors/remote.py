"""Executes a job on the machine that a cluster has chosen for it.

Campaign and worker communicate through files in the run's directory, which all machines share.
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

_POLL_S = 0.5
_INTERRUPTED = 130


class Mailbox:
    """Files in a run's directory, through which its campaign and its worker communicate."""

    def __init__(self, directory: Path) -> None:
        self._interrupt = directory / ".interrupt"
        self._kill = directory / ".kill"
        self._worker = directory / ".worker.json"

    def clear(self) -> None:
        """Remove all files; called before a job is submitted."""
        for path in (self._interrupt, self._kill, self._worker):
            path.unlink(missing_ok=True)

    def interrupt(self) -> None:
        """Have the worker save a checkpoint and end."""
        self._interrupt.touch()

    def kill(self) -> None:
        """End the worker at once."""
        self._kill.touch()

    def signals(self) -> list[signal.Signals]:
        """The signals that the worker is to receive."""
        requests = ((self._kill, signal.SIGKILL), (self._interrupt, signal.SIGINT))
        return [number for path, number in requests if path.exists()]

    def record_worker(self, pid: int, started: float) -> None:
        """Record the host and the process of the worker."""
        process = {"host": socket.gethostname(), "pid": pid, "pid_started": started}
        write_atomically(self._worker, json.dumps(process))

    def worker(self, job: str) -> Worker | None:
        """The worker of the cluster's `job`; None if it has not started."""
        try:
            return Worker(**json.loads(self._worker.read_text(encoding="utf-8")), job=job)
        except FileNotFoundError:
            return None


class RemoteRun:
    """A callable that executes a job on this machine and returns its exit code."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._child: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        """Start the command with this machine's Python, and wait for it."""
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
        mailbox.record_worker(child.pid, psutil.Process(child.pid).create_time())
        interrupted = False
        while (code := _wait(child, _POLL_S)) is None:
            for number in mailbox.signals():
                # Only one SIGINT: a second one would skip the checkpoint.
                if number != signal.SIGINT or not interrupted:
                    child.send_signal(number)
                interrupted = True
        return code

    def interrupt(self, timeout_s: float) -> None:
        """Have the command save a checkpoint and end, and wait for it up to the timeout."""
        if self._child:
            self._child.send_signal(signal.SIGINT)
            _wait(self._child, timeout_s)


def _wait(child: subprocess.Popen[bytes], timeout_s: float) -> int | None:
    try:
        return child.wait(timeout_s)
    except subprocess.TimeoutExpired:
        return None
