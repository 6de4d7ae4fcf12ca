"""The events of a running campaign: one queue that signal handlers and threads put into."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from types import FrameType
from typing import TypeAlias

from pydantic import JsonValue

from retrain_campaign.executors.protocol import Ended, Started

_STOPPING = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Interrupted:
    """SIGINT (Ctrl-C) or SIGTERM was received."""


@dataclass(frozen=True)
class AnalysisEnded:
    """The analysis of an adapter has ended.

    Args:
      name: of the run whose adapter it is.
      result: for the manifest.
      text: for the display.
      error: why the analysis failed; empty if it did not.
    """

    name: str
    result: dict[str, JsonValue]
    text: str
    error: str = ""


Event: TypeAlias = Ended | Started | Interrupted | AnalysisEnded


class EventQueue:
    """Any thread or signal handler may put events; one thread takes them."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Event] = SimpleQueue()  # safe inside a signal handler
        self.put = self._queue.put

    def take(self, timeout_s: float) -> Event | None:
        """The next event; None if there is none within the timeout."""
        try:
            return self._queue.get(timeout=max(0.0, timeout_s))
        except Empty:
            return None

    @contextmanager
    def with_signals(self) -> Iterator[None]:
        """Within the block, SIGINT and SIGTERM are put as events and raise nothing."""

        def handle(_number: int, _frame: FrameType | None) -> None:
            self.put(Interrupted())

        previous = {number: signal.signal(number, handle) for number in _STOPPING}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
