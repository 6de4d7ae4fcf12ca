"""Delays Ctrl-C and SIGTERM until a block of work is complete."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """SIGTERM was received, as schedulers send it; handled like Ctrl-C."""


class _Termination:
    """The handler of SIGTERM: the first signal raises `Terminated`, others have no effect."""

    received = False

    def __call__(self, _signal: int, _frame: FrameType | None) -> None:
        if not self.received:
            self.received = True
            raise Terminated


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Have SIGTERM raise `Terminated` within the block.

    A program that handles SIGTERM itself keeps its handler. Outside the main thread, where Python
    handles no signals, nothing changes.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _Termination())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def finish_first() -> Iterator[None]:
    """Delay Ctrl-C and SIGTERM until the end of the block, then raise them.

    A second Ctrl-C interrupts the block. Outside the main thread, where Python handles no signals,
    nothing is delayed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: type[KeyboardInterrupt] | None = None
    termination = signal.getsignal(signal.SIGTERM)

    def hold(number: int, _frame: FrameType | None) -> None:
        nonlocal held
        if isinstance(termination, _Termination) and number == signal.SIGTERM:
            held = held or (None if termination.received else Terminated)
            termination.received = True
        elif held:
            raise KeyboardInterrupt
        else:
            held = KeyboardInterrupt

    previous = {signal.SIGINT: signal.signal(signal.SIGINT, hold)}
    if isinstance(termination, _Termination):
        previous[signal.SIGTERM] = signal.signal(signal.SIGTERM, hold)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if held:
        raise held
