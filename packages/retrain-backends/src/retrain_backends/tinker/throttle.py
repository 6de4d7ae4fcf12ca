"""Limits the calls in flight over all processes that share a directory, first come first served.

A call takes a ticket, an empty file `<number>-<id>.ticket` that it keeps locked, and may proceed
when fewer than `slots` tickets have a smaller number. Numbers are assigned under `queue.lock`,
each larger than all present ones, so the number of tickets in front of another only decreases, and
a listing of the directory can show too many of them but never too few. The operating system
releases the locks of a process that dies; a ticket that can be locked is stale and is removed.
These locks need a file system of one machine.
"""

import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from random import Random
from threading import Event, Lock
from time import monotonic
from uuid import uuid4

from filelock import FileLock, Timeout

from retrain_backends.errors import ConfigError, RunError, describe

_TICKET, _MEMBER, _QUEUE = ".ticket", ".member", "queue.lock"
# Files of other names are not ours.
_NAMES = {
    _TICKET: re.compile(r"[0-9]{12,}-[0-9a-f]{8}\.ticket"),
    _MEMBER: re.compile(r"[0-9]+-[0-9a-f]{32}\.member"),
}

# A waiting call polls after this share of its expected wait, estimated from how fast the queue has
# moved so far, so that two hundred calls that wait for long ones cost little.
_SHARE, _SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 0.01, 1.0
# How often it looks for stale tickets: less often from farther behind.
_SEARCH_S, _SEARCH_EACH_S, _LONGEST_SEARCH_S = 0.2, 0.2, 10.0
_QUEUE_PATIENCE_S = 60.0  # a number is assigned in well under a millisecond
_JITTER = Random()  # of its own, so that waiting changes no random numbers of the user's code


@dataclass
class LockedFile:
    """A ticket or the file of a member; `lock` is None before it is taken."""

    path: Path = Path()
    lock: FileLock | None = None


class Queue:
    """The tickets in a directory. A call holds its ticket from `join` to `leave`."""

    def __init__(self, directory: Path, slots: int) -> None:
        self.directory = directory
        self.slots = slots

    def join(self, ticket: LockedFile) -> None:
        """Assign the ticket the next number."""
        with self._locked():
            numbers = (int(name.partition("-")[0]) for name in self._names(_TICKET))
            number = max(numbers, default=-1) + 1
            ticket.path = self.directory / f"{number:012d}-{uuid4().hex[:8]}{_TICKET}"
            ticket.lock = _take(ticket.path)

    def leave(self, ticket: LockedFile) -> None:
        """Remove the ticket, if it has been taken."""
        if ticket.lock:
            _drop(ticket.path, ticket.lock)

    def ahead(self, ticket: LockedFile) -> int:
        """How many tickets are in front; may include some that have just been removed."""
        return sum(name < ticket.path.name for name in self._names(_TICKET))

    def remove_stale(self, ticket: LockedFile) -> None:
        """Remove stale tickets from the front, until a live one is found for every slot."""
        # If another process holds the queue, it may be doing the same, and the next try suffices.
        try:
            with self._locked(patience_s=0):
                live = 0
                for name in sorted(self._names(_TICKET)):
                    if live == self.slots or name >= ticket.path.name:
                        break
                    live += not _removed_if_stale(self.directory / name)
        except Timeout:
            return

    def register(self) -> LockedFile:
        """Publish the number of slots to other processes, as long as this one lives.

        Raises:
          ConfigError: a live process uses another number.
        """
        with self._locked():
            for name in self._names(_TICKET):  # a campaign that was killed may have left many
                _removed_if_stale(self.directory / name)
            names = [n for n in self._names(_MEMBER) if not _removed_if_stale(self.directory / n)]
            others = {int(name.split("-")[0]) for name in names} - {self.slots}
            if others:
                raise ConfigError(
                    f"backend.max_concurrent: {self.slots}, but a running process that shares "
                    f"backend.throttle_dir = {self.directory} has {others.pop()}; "
                    "give all of them the same"
                )
            path = self.directory / f"{self.slots}-{uuid4().hex}{_MEMBER}"
            return LockedFile(path, _take(path))

    def _names(self, kind: str) -> list[str]:
        # Called at every poll, hence no Path for each name.
        names = os.listdir(self.directory)  # noqa: PTH208
        return [name for name in names if _NAMES[kind].fullmatch(name)]

    @contextmanager
    def _locked(self, patience_s: float = _QUEUE_PATIENCE_S) -> Iterator[None]:
        path = self.directory / _QUEUE
        lock = FileLock(path, patience_s, thread_local=False)
        try:
            lock.acquire(poll_interval=0.003)
        except Timeout:
            if not patience_s:
                raise
            raise RunError(
                f"backend.throttle_dir: {path} has been locked for {patience_s:g} s; a process "
                "that holds it must have been stopped: end or continue it"
            ) from None
        try:
            yield
        finally:
            lock.release()


class Throttle:
    """Limits calls to `slots` at a time; thread-safe.

    Args:
      queue: shared with other processes; None for no limit.
      patience_s: longest wait in which no call in front ends.
    """

    def __init__(self, queue: Queue | None, patience_s: float) -> None:
        self._queue = queue
        self._patience_s = patience_s
        self._member = queue.register() if queue else LockedFile()
        self._closed = Event()
        self._lock = Lock()
        self._waited_s = 0.0

    def slot(self) -> AbstractContextManager[None]:
        """Wait for a slot, and hold it as long as the context.

        Raises:
          RunError: nothing moved for too long, the directory failed, or the throttle was closed.
        """
        return self._hold_slot(self._queue) if self._queue else nullcontext()

    def take_waited_s(self) -> float:
        """Total seconds that calls have waited for slots since the last call of this method."""
        with self._lock:
            waited_s, self._waited_s = self._waited_s, 0.0
        return waited_s

    def close(self) -> None:
        """End all waits, and remove this process from the members."""
        self._closed.set()
        if self._queue:
            self._queue.leave(self._member)

    @contextmanager
    def _hold_slot(self, queue: Queue) -> Iterator[None]:
        ticket = LockedFile()  # made before its file, so that an interrupt leaves no file
        try:
            started = monotonic()
            try:
                queue.join(ticket)
                self._wait(queue, ticket)
            # A border: the directory may be deleted, or its disk full.
            except OSError as error:
                raise RunError(
                    f"backend.throttle_dir: {queue.directory} has become unusable: "
                    f"{describe(error)}"
                ) from error
            finally:
                with self._lock:
                    self._waited_s += monotonic() - started
            yield
        finally:
            queue.leave(ticket)

    def _wait(self, queue: Queue, ticket: LockedFile) -> None:
        started = moved = searched = monotonic()
        ahead = first = fewest = queue.ahead(ticket)
        while ahead >= queue.slots:
            now, behind = monotonic(), ahead - queue.slots
            if ahead < fewest:
                fewest, moved = ahead, now
            if now - moved > self._patience_s:
                raise RunError(_stuck(queue, ahead, self._patience_s))
            if now - searched > min(_SEARCH_S + behind * _SEARCH_EACH_S, _LONGEST_SEARCH_S):
                queue.remove_stale(ticket)
                searched = now
            expected_s = (behind + 1) * (now - started) / (first - fewest + 1)
            pause_s = min(max(_SHARE * expected_s, _SHORTEST_PAUSE_S), _LONGEST_PAUSE_S)
            if self._closed.wait(pause_s * _JITTER.uniform(0.5, 1.5)):
                raise RunError("the run ended while a call waited for its slot at the throttle")
            ahead = queue.ahead(ticket)


def open_throttle(directory: str, slots: int, patience_s: float = 7200.0) -> Throttle:
    """A throttle over all processes that open the same directory.

    Args:
      directory: created if missing; empty for a throttle without limit and files.
      slots: calls in flight at once, the same for all processes.
      patience_s: longest wait in which no call in front ends; longer than any call may take.

    Raises:
      ConfigError: the directory cannot be used, or others use it with another number of slots.
    """
    if not directory:
        return Throttle(None, patience_s)
    place = Path(directory).expanduser().absolute()
    # A border: the directory is the user's.
    try:
        place.mkdir(parents=True, exist_ok=True)
        return Throttle(Queue(place, slots), patience_s)
    except OSError as error:
        raise ConfigError(
            f"backend.throttle_dir: `{directory}` cannot be written ({error.strerror}); "
            "name a directory that all processes may write to"
        ) from error


def _stuck(queue: Queue, ahead: int, patience_s: float) -> str:
    return (
        f"backend.throttle_dir: {queue.directory}: waited for one of the {queue.slots} slots, and "
        f"none of the {ahead} calls in front ended for {patience_s:g} s; look for a process that "
        "hangs"
    )


def _take(path: Path) -> FileLock:
    """Lock a file that no other process has locked."""
    lock = FileLock(path, thread_local=False)
    lock.acquire(blocking=False)
    return lock


def _drop(path: Path, lock: FileLock) -> None:
    # In this order because Windows removes no open file. A process that takes the file for a stale
    # one in between removes it as well; its name is used only once.
    lock.release()
    path.unlink(missing_ok=True)


def _removed_if_stale(path: Path) -> bool:
    """Whether the file was stale, and has been removed."""
    try:
        lock = _take(path)
    except Timeout:
        return False
    _drop(path, lock)
    return True
