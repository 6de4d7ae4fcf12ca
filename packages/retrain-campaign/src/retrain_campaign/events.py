"""What can happen while a campaign goes on: one queue that signals and threads put into."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from types import FrameType
from typing import TypeAlias

from pydantic import JsonValue

from retrain_campaign.executors.protocol import Ended, Placed

_STOPPING = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Interrupted:
    """Ctrl-C, or a request of the system to end."""


@dataclass(frozen=True)
class Squeezed:
    """What the analysis of an adapter found, or why it failed."""

    name: str
    result: dict[str, JsonValue]
    text: str
    error: str = ""


Event: TypeAlias = Ended | Placed | Interrupted | Squeezed


class Events:
    """The queue; anything may put into it, one thread takes out."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Event] = SimpleQueue()  # safe inside a signal handler
        self.put = self._queue.put

    def take(self, timeout_s: float) -> Event | None:
        """The next event; None when there is none for so long."""
        try:
            return self._queue.get(timeout=max(0.0, timeout_s))
        except Empty:
            return None

    @contextmanager
    def with_signals(self) -> Iterator[None]:
        """Within the block Ctrl-C is an event, and raises nothing."""

        def handle(_number: int, _frame: FrameType | None) -> None:
            self.put(Interrupted())

        previous = {number: signal.signal(number, handle) for number in _STOPPING}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
