"""Work beside the loop."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from time import monotonic
from typing import TypeVar

T = TypeVar("T")


class Background:
    """Does work in threads of its own, each of which ends with its work or with the process.

    Args:
      patience_s: how long `close` waits for what still runs.
    """

    def __init__(self, patience_s: float = 10.0) -> None:
        self._patience_s = patience_s
        self._threads: list[threading.Thread] = []

    def start(self, work: Callable[[], T]) -> Future[T]:
        """Begin; whatever the work raises is raised where its result is asked for."""
        future: Future[T] = Future()
        thread = threading.Thread(target=_do, args=(work, future), name="ahead", daemon=True)
        self._threads = [*(other for other in self._threads if other.is_alive()), thread]
        thread.start()
        return future

    def close(self) -> None:
        """Wait for what still runs; what is stuck in somebody else's call is left to the end."""
        deadline = monotonic() + self._patience_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - monotonic()))


def _do(work: Callable[[], T], future: Future[T]) -> None:
    # A border between threads: nothing may be lost on the way to the one that asks.
    try:
        result = work()
    except BaseException as error:  # noqa: BLE001
        future.set_exception(error)
    else:
        future.set_result(result)
