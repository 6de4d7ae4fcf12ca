"""Executes runs as processes of this machine.

Each process has its own session: Ctrl-C in the terminal reaches only the campaign, which interrupts
the runs itself. If the campaign is killed, its runs continue, and a resumed campaign adopts them.
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
from retrain_campaign.executors.protocol import Ended, Job, Notify, Worker
from retrain_campaign.plan.campaign import Campaign
from retrain_campaign.storage.manifest import RunEntry

_START_TOLERANCE_S = 1.0  # the reported start times of one process differ by rounding
_ATTRIBUTES = ["cmdline", "cwd", "status"]  # of a process, to find out which job it does


class ProcessExecutor:
    """Starts processes, and waits for each in a thread."""

    retries = False

    def __init__(self) -> None:
        self._processes: dict[str, psutil.Process] = {}

    @classmethod
    def from_campaign(cls, campaign: Campaign) -> Self:
        """Create an executor, which has no options.

        Raises:
          ConfigError: options are set.
        """
        options = campaign.settings.executor_options
        read_options("campaign.executor_options", NoOptions, options)
        return cls()

    def start(self, job: Job, notify: Notify) -> Worker:
        """Start a process; its output is appended to the job's file."""
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
        # A border: the program may not exist, or the system may be out of resources.
        except OSError as error:
            raise RunError(f"cannot start `{job.command[0]}` ({error.strerror})") from error
        return self._watch(job.name, psutil.Process(child.pid), child.wait, notify)

    def adopt(self, entry: RunEntry, job: Job, notify: Notify) -> Worker | None:
        """Find the process by pid and start time, or by its command if these were not recorded."""
        if entry.host not in ("", socket.gethostname()):
            return None
        found = _process_of(entry, job) or _process_by_command(job)
        if found is None:
            return None
        return self._watch(entry.name, found, lambda: _wait_for_foreign(found), notify)

    def interrupt(self, name: str) -> None:
        """Send SIGINT."""
        self._signal(name, signal.SIGINT)

    def kill(self, name: str) -> None:
        """Send SIGKILL."""
        self._signal(name, signal.SIGKILL)

    def close(self) -> None:
        """Nothing to release."""

    def _watch(
        self,
        name: str,
        process: psutil.Process,
        wait: Callable[[], int | None],
        notify: Notify,
    ) -> Worker:
        self._processes[name] = process

        def watch() -> None:
            exit_code = wait()
            self._processes.pop(name, None)
            notify(Ended(name, exit_code))

        started = _started(process)
        threading.Thread(target=watch, name=f"waits for {name}", daemon=True).start()
        return Worker(host=socket.gethostname(), pid=process.pid, pid_started=started)

    def _signal(self, name: str, number: int) -> None:
        process = self._processes.get(name)
        try:
            if process:
                process.send_signal(number)
        except psutil.NoSuchProcess:  # it has just ended
            return


def _started(process: psutil.Process) -> float | None:
    try:
        return process.create_time()
    except psutil.NoSuchProcess:
        return None


def _wait_for_foreign(process: psutil.Process) -> None:
    """Wait for a process that is not a child of this one; its exit code is not available."""
    process.wait()


def _process_of(entry: RunEntry, job: Job) -> psutil.Process | None:
    """The recorded process, if it does this job: a copied campaign records the original's."""
    if entry.pid is None or entry.pid_started is None:
        return None
    try:
        process = psutil.Process(entry.pid)
        same = abs(process.create_time() - entry.pid_started) < _START_TOLERANCE_S
        return process if same and _is_of(process.as_dict(_ATTRIBUTES), job) else None
    except psutil.NoSuchProcess:
        return None


def _process_by_command(job: Job) -> psutil.Process | None:
    """A process that was started just before the campaign was killed, so was not recorded."""
    found = psutil.process_iter(_ATTRIBUTES)
    return next((process for process in found if _is_of(process.info, job)), None)


def _is_of(info: dict[str, Iterable[str] | str | None], job: Job) -> bool:
    command = tuple(info["cmdline"] or ())
    return (
        command[1:] == job.command[1:]  # without the path of the interpreter
        and info["cwd"] == str(job.directory.resolve())
        and info["status"] != psutil.STATUS_ZOMBIE
    )
