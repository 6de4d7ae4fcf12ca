"""Requests that are answered later: futures, and queues that keep their order."""

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple


class RefusedError(Exception):
    """A request cannot be processed; its future ends as the API's "request failed".

    Args:
      message: one line for the user.
      category: the cause that is reported: "user", "server" or "unknown".
    """

    def __init__(self, message: str, category: str = "user") -> None:
        super().__init__(message)
        self.category = category


class Outcome(NamedTuple):
    """The result of a future: a JSON object, or a protocol buffers message."""

    json: dict[str, object] | None = None
    message: bytes = b""


Work = Callable[[], Outcome]


class ServerFuture:
    """A request that is being processed."""

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        self._done = threading.Event()
        self._outcome: Outcome | None = None

    def run(self, work: Work) -> None:
        """Run the work and keep its outcome; errors of the server itself propagate."""
        outcome = _failure("the test server broke, see its output", "server")
        try:
            outcome = work()
        except RefusedError as refused:
            outcome = _failure(str(refused), refused.category)
        finally:
            self._outcome = outcome
            self._done.set()

    def wait(self, timeout_s: float) -> Outcome | None:
        """The outcome, or None if the request has not ended after that time."""
        self._done.wait(timeout_s)
        return self._outcome


class FutureTable:
    """All futures of a server, and the threads that complete them.

    A request is identified by its key: submitted again, because the answer was lost, it gets the
    same future and is not processed twice, unless the server forgets requests.

    Args:
      report: called with errors of the server itself.
      forgets: whether the server forgets requests.
      threads: that complete futures.
    """

    def __init__(
        self,
        report: Callable[[BaseException], None],
        forgets: Callable[[], bool] = lambda: False,
        threads: int = 64,
    ) -> None:
        self._report = report
        self.forgets = forgets
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="tinker-server")
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._by_key: dict[tuple[object, ...], ServerFuture] = {}
        self._by_id: dict[str, ServerFuture] = {}

    def find(self, request_id: str) -> ServerFuture | None:
        """The future of that id."""
        return self._by_id.get(request_id)

    def submit(self, key: tuple[object, ...], work: Work) -> ServerFuture:
        """Start the work, unless the request has been submitted before."""
        future, is_new = self.reserve(key)
        if is_new:
            self.start(lambda: future.run(work))
        return future

    def reserve(self, key: tuple[object, ...]) -> tuple[ServerFuture, bool]:
        """The request's future, and whether it was new."""
        with self._lock:
            known = None if self.forgets() else self._by_key.get(key)
            if known is not None:
                return known, False
            future = ServerFuture(f"request-{next(self._numbers)}")
            self._by_key[key] = self._by_id[future.request_id] = future
            return future, True

    def start(self, task: Callable[[], None]) -> None:
        """Run a task on one of the threads."""
        self._pool.submit(task).add_done_callback(self._finished)

    def forget(self) -> None:
        """Drop every future, as a restarted service does."""
        with self._lock:
            self._by_key.clear()
            self._by_id.clear()

    def close(self) -> None:
        """Wait for running tasks, and drop the others."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _finished(self, future: Future[None]) -> None:
        error = None if future.cancelled() else future.exception()
        if error is not None:
            self._report(error)


class RequestQueue:
    """The requests of one training client, processed one at a time in the order of their numbers.

    A request that arrives before its predecessor waits for it. A server that forgets requests
    processes them as they arrive.

    Args:
      futures: the server's futures.
      name: part of the requests' keys.
    """

    def __init__(self, futures: FutureTable, name: str) -> None:
        self._futures = futures
        self._name = name
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._next = 1
        self._waiting: dict[int, tuple[ServerFuture, Work]] = {}

    def submit(self, number: int, work: Work) -> ServerFuture:
        """Queue a request; numbers begin at 1."""
        future, is_new = self._futures.reserve((self._name, number))
        if is_new:
            with self._lock:
                if self._futures.forgets():
                    number = self._next + len(self._waiting)
                self._waiting[number] = (future, work)
            self._futures.start(self._advance)
        return future

    def _advance(self) -> None:
        with self._turn:
            while (turn := self._take()) is not None:
                future, work = turn
                future.run(work)

    def _take(self) -> tuple[ServerFuture, Work] | None:
        with self._lock:
            turn = self._waiting.pop(self._next, None)
            self._next += turn is not None
            return turn


def _failure(message: str, category: str) -> Outcome:
    return Outcome({"error": message, "category": category})
