"""Threads that work beside the training loop."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from time import monotonic
from typing import TypeVar

T = TypeVar("T")


class Background:
    """Runs each piece of work in a daemon thread.

    Args:
      patience_s: how long `close` waits for running threads.
    """

    def __init__(self, patience_s: float = 10.0) -> None:
        self._patience_s = patience_s
        self._threads: list[threading.Thread] = []

    def start(self, work: Callable[[], T]) -> Future[T]:
        """Start the work; what it raises is raised by `Future.result`."""
        future: Future[T] = Future()
        thread = threading.Thread(target=_run, args=(work, future), name="background", daemon=True)
        self._threads = [*(other for other in self._threads if other.is_alive()), thread]
        thread.start()
        return future

    def close(self) -> None:
        """Wait for running threads; those that do not finish in time end with the process."""
        deadline = monotonic() + self._patience_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - monotonic()))


def _run(work: Callable[[], T], future: Future[T]) -> None:
    # A border between threads: every exception is passed to the caller of `result`.
    try:
        result = work()
    except BaseException as error:  # noqa: BLE001
        future.set_exception(error)
    else:
        future.set_result(result)
