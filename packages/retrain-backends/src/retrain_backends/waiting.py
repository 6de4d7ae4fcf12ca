"""Waits for a service, and reports when it has stopped answering: clients retry in silence."""

from collections.abc import Callable
from concurrent.futures import Future, wait
from datetime import datetime, timedelta
from logging import getLogger
from threading import Lock, Thread
from time import monotonic
from typing import Any, TypeVar

T = TypeVar("T")

log = getLogger(__name__)

RESUME_HINT = "`retrain --resume` continues from the last checkpoint"
CHECK_S = 10.0  # between two checks that a service is still there
_PATIENCE_S = 3.0  # for the answer to a check


class Waiting:
    """Waits for the results of calls; thread-safe.

    Args:
      endpoint: the address of the service, for messages.
      ask: a request that the service answers at once.
      limit_s: longest wait for one result.
      key: the setting of that limit, for messages.
      check_s: how long a result may take before the service is asked whether it is still there.
      patience_s: for the answer to that.
    """

    def __init__(
        self,
        endpoint: str,
        ask: Callable[[], Any],
        limit_s: float,
        key: str,
        check_s: float = CHECK_S,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        self._endpoint = endpoint
        self._ask = ask
        self._limit_s = limit_s
        self._key = key
        self._check_s = check_s
        self._patience_s = patience_s
        self._lock = Lock()
        self._asked: Future[Any] | None = None
        self._is_silent = False

    def until(self, ready: Callable[[float], T], doing: str) -> T:
        """Wait until something is ready.

        Args:
          ready: waits for at most so many seconds and returns what is ready, or something false.
          doing: names the call in messages.

        Raises:
          TimeoutError: it took longer than the limit.
        """
        began, started = datetime.now().astimezone(), monotonic()
        while True:
            left_s = max(0.0, self._limit_s - (monotonic() - started))
            if found := ready(min(self._check_s, left_s)):
                return found
            if left_s <= self._check_s:
                raise TimeoutError
            self._check(began, doing)

    def _check(self, began: datetime, doing: str) -> None:
        with self._lock:
            if self._asked is None or self._asked.done():
                self._asked = in_thread(self._ask)
            wait([self._asked], self._patience_s)
            is_silent = not self._asked.done() or self._asked.exception() is not None
            if is_silent and not self._is_silent:
                ends = began + timedelta(seconds=self._limit_s)
                log.warning(
                    "waiting for %s since %s: it does not answer (%s); the run ends at %s"
                    " (%s = %g)",
                    self._endpoint,
                    began.strftime("%H:%M:%S"),
                    doing,
                    ends.strftime("%H:%M:%S"),
                    self._key,
                    self._limit_s,
                )
            elif self._is_silent and not is_silent:
                log.warning("%s answers again", self._endpoint)
            self._is_silent = is_silent


def in_thread(call: Callable[[], Any]) -> Future[Any]:
    """The future of a call; newer SDKs return a future of it, older ones block without limit.

    A call that never returns keeps its thread until the process ends.
    """
    outcome: Future[Any] = Future()

    def work() -> None:
        # A border between threads: every error is passed to the one that waits.
        try:
            answer = call()
            found = answer.result() if hasattr(answer, "result") else answer
        except BaseException as error:  # noqa: BLE001
            outcome.set_exception(error)
        else:
            outcome.set_result(found)

    Thread(target=work, name="waiting", daemon=True).start()
    return outcome
