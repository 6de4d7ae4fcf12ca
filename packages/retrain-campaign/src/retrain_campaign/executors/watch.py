"""A thread that looks at the jobs of a cluster, and tells what has become of them."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from retrain_campaign.executors.protocol import Ended, Placed, Tell, Worker
from retrain_campaign.executors.remote import Mailbox

HandleT = TypeVar("HandleT")


@dataclass
class Watched(Generic[HandleT]):
    """A job: what the cluster calls it, where it is, whom to tell."""

    name: str
    handle: HandleT
    job: str
    mailbox: Mailbox
    tell: Tell
    worker: Worker | None = None


class Watch(Generic[HandleT]):
    """All jobs of an executor.

    Args:
      outcome: how a job has ended; None as long as it has not. Called in the thread.
      every_s: time between two looks.
    """

    def __init__(self, outcome: Callable[[Watched[HandleT]], Ended | None], every_s: float) -> None:
        self._outcome = outcome
        self._every_s = every_s
        self._jobs: dict[str, Watched[HandleT]] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._look, name="watches jobs", daemon=True)

    def add(self, watched: Watched[HandleT]) -> None:
        """Look at this job too."""
        with self._lock:
            self._jobs[watched.name] = watched
            if not self._thread.is_alive():
                self._thread.start()

    def get(self, name: str) -> Watched[HandleT] | None:
        """A job that has not ended."""
        with self._lock:
            return self._jobs.get(name)

    def close(self) -> None:
        """Look no more."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()

    def _look(self) -> None:
        while not self._closed.wait(self._every_s):
            with self._lock:
                jobs = list(self._jobs.values())
            for watched in jobs:
                self._look_at(watched)

    def _look_at(self, watched: Watched[HandleT]) -> None:
        worker = watched.mailbox.worker(watched.job)
        if worker and worker != watched.worker:
            watched.worker = worker
            watched.tell(Placed(watched.name, worker))
        if ended := self._outcome(watched):
            with self._lock:
                del self._jobs[watched.name]
            watched.tell(ended)
