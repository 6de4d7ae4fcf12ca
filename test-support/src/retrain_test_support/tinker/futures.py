"""Requests that are answered later: promises, and lines in which they wait for their turn."""

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple


class RefusedError(Exception):
    """A request cannot be done; ends its promise as the API's "request failed".

    Args:
      message: one line for the user.
      category: "user", "server" or "unknown": whose fault it is.
    """

    def __init__(self, message: str, category: str = "user") -> None:
        super().__init__(message)
        self.category = category


class Outcome(NamedTuple):
    """What a promise ended with: a JSON object, or a protocol buffers message."""

    json: dict[str, object] | None = None
    message: bytes = b""


Work = Callable[[], Outcome]


class Promise:
    """A request under way."""

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        self._done = threading.Event()
        self._outcome: Outcome | None = None

    def run(self, work: Work) -> None:
        """Do the work and keep what came out; an error of the server itself is passed on."""
        outcome = _failure("the test server broke, see its output", "server")
        try:
            outcome = work()
        except RefusedError as refused:
            outcome = _failure(str(refused), refused.category)
        finally:
            self._outcome = outcome
            self._done.set()

    def wait(self, timeout_s: float) -> Outcome | None:
        """The outcome, or None if the request is still under way after that time."""
        self._done.wait(timeout_s)
        return self._outcome


class Promises:
    """All promises of a server, and the threads that keep them.

    A request is known by its key: submitted again, because the answer was lost, it gets the promise
    that it already has and is not done twice.
    """

    def __init__(self, report: Callable[[BaseException], None], threads: int = 64) -> None:
        self._report = report
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="tinker-server")
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._by_key: dict[tuple[object, ...], Promise] = {}
        self._by_id: dict[str, Promise] = {}

    def find(self, request_id: str) -> Promise | None:
        """The promise of that id."""
        return self._by_id.get(request_id)

    def submit(self, key: tuple[object, ...], work: Work) -> Promise:
        """Start the work, unless the request is known."""
        promise, is_new = self.reserve(key)
        if is_new:
            self.start(lambda: promise.run(work))
        return promise

    def reserve(self, key: tuple[object, ...]) -> tuple[Promise, bool]:
        """The request's promise, and whether it was new."""
        with self._lock:
            known = self._by_key.get(key)
            if known is not None:
                return known, False
            promise = Promise(f"request-{next(self._numbers)}")
            self._by_key[key] = self._by_id[promise.request_id] = promise
            return promise, True

    def start(self, task: Callable[[], None]) -> None:
        """Run something on one of the threads."""
        self._pool.submit(task).add_done_callback(self._finished)

    def forget(self) -> None:
        """Lose every promise, as a restarted service does."""
        with self._lock:
            self._by_key.clear()
            self._by_id.clear()

    def close(self) -> None:
        """Let what runs finish, and drop the rest."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _finished(self, future: Future[None]) -> None:
        error = None if future.cancelled() else future.exception()
        if error is not None:
            self._report(error)


class Line:
    """The requests of one training client, done one at a time in the order of their numbers.

    A request whose predecessor has not arrived waits for it.

    Args:
      promises: the server's promises.
      name: part of the requests' keys.
    """

    def __init__(self, promises: Promises, name: str) -> None:
        self._promises = promises
        self._name = name
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._next = 1
        self._waiting: dict[int, tuple[Promise, Work]] = {}

    def submit(self, number: int, work: Work) -> Promise:
        """Put a request in its place; numbers begin at 1."""
        promise, is_new = self._promises.reserve((self._name, number))
        if is_new:
            with self._lock:
                self._waiting[number] = (promise, work)
            self._promises.start(self._advance)
        return promise

    def _advance(self) -> None:
        with self._turn:
            while (turn := self._take()) is not None:
                promise, work = turn
                promise.run(work)

    def _take(self) -> tuple[Promise, Work] | None:
        with self._lock:
            turn = self._waiting.pop(self._next, None)
            self._next += turn is not None
            return turn


def _failure(message: str, category: str) -> Outcome:
    return Outcome({"error": message, "category": category})
