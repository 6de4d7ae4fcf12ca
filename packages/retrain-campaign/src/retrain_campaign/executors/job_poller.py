"""A thread that polls the jobs of a cluster and reports their starts and ends."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from retrain_campaign.executors.protocol import Ended, Notify, Started, Worker
from retrain_campaign.executors.remote import Mailbox

HandleT = TypeVar("HandleT")


@dataclass
class PolledJob(Generic[HandleT]):
    """A submitted job.

    Args:
      name: of the run.
      handle: the cluster's object for the job.
      job: the cluster's id of the job.
      mailbox: of the run's directory.
      notify: called with each event.
      worker: the process that does the job; None until it has started.
    """

    name: str
    handle: HandleT
    job: str
    mailbox: Mailbox
    notify: Notify
    worker: Worker | None = None


class JobPoller(Generic[HandleT]):
    """Polls all jobs of an executor.

    Args:
      outcome: how a job has ended; None while it has not. Called in the thread.
      every_s: time between two polls.
    """

    def __init__(
        self, outcome: Callable[[PolledJob[HandleT]], Ended | None], every_s: float
    ) -> None:
        self._outcome = outcome
        self._every_s = every_s
        self._jobs: dict[str, PolledJob[HandleT]] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="job poller", daemon=True)

    def add(self, polled: PolledJob[HandleT]) -> None:
        """Poll this job too."""
        with self._lock:
            self._jobs[polled.name] = polled
            if not self._thread.is_alive():
                self._thread.start()

    def get(self, name: str) -> PolledJob[HandleT] | None:
        """The job of a run; None if it has ended."""
        with self._lock:
            return self._jobs.get(name)

    def close(self) -> None:
        """Stop polling."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._closed.wait(self._every_s):
            with self._lock:
                jobs = list(self._jobs.values())
            for polled in jobs:
                self._poll(polled)

    def _poll(self, polled: PolledJob[HandleT]) -> None:
        worker = polled.mailbox.worker(polled.job)
        if worker and worker != polled.worker:
            polled.worker = worker
            polled.notify(Started(polled.name, worker))
        if ended := self._outcome(polled):
            with self._lock:
                del self._jobs[polled.name]
            polled.notify(ended)
