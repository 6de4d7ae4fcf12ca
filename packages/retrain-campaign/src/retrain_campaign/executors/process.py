"""Runs as processes of this machine.

Each has a session of its own: Ctrl-C in the terminal reaches the campaign alone, which passes it
on, and when the campaign is killed its runs go on, to be adopted by the next one.
"""

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterable
from typing import Self

import psutil

from retrain_backends.config import read_options
from retrain_backends.errors import RunError
from retrain_campaign.executors.options import NoOptions
from retrain_campaign.executors.protocol import Ended, Job, Tell, Worker
from retrain_campaign.manifest import RunEntry
from retrain_campaign.plan import Campaign

_SAME_START_S = 1.0  # two answers to when a process started differ by rounding only
_LOOKED_AT = ["cmdline", "cwd", "status"]  # of a process, to tell which job it does


class ProcessExecutor:
    """Starts processes and waits for each in a thread."""

    retries = False

    def __init__(self) -> None:
        self._processes: dict[str, psutil.Process] = {}

    @classmethod
    def from_campaign(cls, campaign: Campaign) -> Self:
        """Make one; it has no settings.

        Raises:
          ConfigError: there are some.
        """
        options = campaign.settings.executor_options
        read_options("campaign.executor_options", NoOptions, options)
        return cls()

    def start(self, job: Job, tell: Tell) -> Worker:
        """Start a process; what it says is appended to the job's output."""
        try:
            with job.output.open("ab") as output:
                child = subprocess.Popen(
                    job.command,
                    cwd=job.directory,
                    env={**os.environ, **job.environment},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        # A border: there may be no room for a process, or no such program.
        except OSError as error:
            raise RunError(f"cannot start `{job.command[0]}` ({error.strerror})") from error
        return self._watch(job.name, psutil.Process(child.pid), child.wait, tell)

    def adopt(self, entry: RunEntry, job: Job, tell: Tell) -> Worker | None:
        """Find the process by number and start, or by its command if that was not noted in time."""
        if entry.host not in ("", socket.gethostname()):
            return None
        found = _process_of(entry, job) or _process_by_command(job)
        if found is None:
            return None
        return self._watch(entry.name, found, lambda: _wait_for_stranger(found), tell)

    def interrupt(self, name: str) -> None:
        """Send SIGINT."""
        self._signal(name, signal.SIGINT)

    def kill(self, name: str) -> None:
        """Send SIGKILL."""
        self._signal(name, signal.SIGKILL)

    def close(self) -> None:
        """Nothing is held."""

    def _watch(
        self,
        name: str,
        process: psutil.Process,
        wait: Callable[[], int | None],
        tell: Tell,
    ) -> Worker:
        self._processes[name] = process

        def watch() -> None:
            exit_code = wait()
            self._processes.pop(name, None)
            tell(Ended(name, exit_code))

        started = _started(process)
        threading.Thread(target=watch, name=f"waits for {name}", daemon=True).start()
        return Worker(host=socket.gethostname(), pid=process.pid, pid_started=started)

    def _signal(self, name: str, number: int) -> None:
        process = self._processes.get(name)
        try:
            if process:
                process.send_signal(number)
        except psutil.NoSuchProcess:  # it has ended just now
            return


def _started(process: psutil.Process) -> float | None:
    try:
        return process.create_time()
    except psutil.NoSuchProcess:
        return None


def _wait_for_stranger(process: psutil.Process) -> None:
    """Wait for a process that is no child of ours; its exit code is nobody's to know."""
    process.wait()


def _process_of(entry: RunEntry, job: Job) -> psutil.Process | None:
    """The noted process, if it does this job: a copy of a campaign notes the original's."""
    if entry.pid is None or entry.pid_started is None:
        return None
    try:
        process = psutil.Process(entry.pid)
        same = abs(process.create_time() - entry.pid_started) < _SAME_START_S
        return process if same and _is_of(process.as_dict(_LOOKED_AT), job) else None
    except psutil.NoSuchProcess:
        return None


def _process_by_command(job: Job) -> psutil.Process | None:
    """A process that was started a moment before the campaign was killed, its number not noted."""
    found = psutil.process_iter(_LOOKED_AT)
    return next((process for process in found if _is_of(process.info, job)), None)


def _is_of(info: dict[str, Iterable[str] | str | None], job: Job) -> bool:
    command = tuple(info["cmdline"] or ())
    return (
        command[1:] == job.command[1:]  # whichever Python it is
        and info["cwd"] == str(job.directory.resolve())
        and info["status"] != psutil.STATUS_ZOMBIE
    )
