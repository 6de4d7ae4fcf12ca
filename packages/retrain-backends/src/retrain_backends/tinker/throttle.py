"""At most so many calls in flight over all processes that share a directory, in turn.

A call takes a ticket, an empty file `<number>-<id>.ticket` that it keeps locked, and may proceed
when fewer than `slots` tickets have a smaller number. Numbers are given out under `queue.lock`,
each larger than all that are there, so the tickets in front of one only ever become fewer and a
listing of the directory can show too many of them but never too few. The operating system frees
the locks of a process that dies; a ticket whose lock can be had belongs to nobody and is removed.
Locks of this kind need a file system of one machine.
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
# Files of other names are somebody else's, whatever they end with.
_NAMES = {
    _TICKET: re.compile(r"[0-9]{12,}-[0-9a-f]{8}\.ticket"),
    _MEMBER: re.compile(r"[0-9]+-[0-9a-f]{32}\.member"),
}

# A waiting call looks again after this share of the time that it must expect to wait, judged by how
# fast the queue has moved so far: two hundred that wait for long calls cost next to nothing.
_SHARE, _SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 0.01, 1.0
# How often it looks for the tickets of the dead, again less often from farther behind.
_SEARCH_S, _SEARCH_EACH_S, _LONGEST_SEARCH_S = 0.2, 0.2, 10.0
_QUEUE_PATIENCE_S = 60.0  # numbers are given out in well under a millisecond
_JITTER = Random()  # of its own: random numbers of a user's code are not to depend on waiting


@dataclass
class Ticket:
    """A place in the queue; it has one while it has a lock."""

    path: Path = Path()
    lock: FileLock | None = None


class Queue:
    """The tickets in a directory. A call keeps its ticket from `join` to `leave`."""

    def __init__(self, directory: Path, slots: int) -> None:
        self.directory = directory
        self.slots = slots

    def join(self, ticket: Ticket) -> None:
        """Give the ticket a number behind all others."""
        with self._alone():
            numbers = (int(name.partition("-")[0]) for name in self._names(_TICKET))
            number = max(numbers, default=-1) + 1
            ticket.path = self.directory / f"{number:012d}-{uuid4().hex[:8]}{_TICKET}"
            ticket.lock = _take(ticket.path)

    def leave(self, ticket: Ticket) -> None:
        """Give the place up, if there is one."""
        if ticket.lock:
            _drop(ticket.path, ticket.lock)

    def ahead(self, ticket: Ticket) -> int:
        """How many tickets are in front; may include some that have just gone."""
        return sum(name < ticket.path.name for name in self._names(_TICKET))

    def bury(self, ticket: Ticket) -> None:
        """Remove tickets of the dead from the front, until the slots are full of the living."""
        # Somebody else is busy with the queue, perhaps with this very thing: later is early enough.
        try:
            with self._alone(patience_s=0):
                living = 0
                for name in sorted(self._names(_TICKET)):
                    if living == self.slots or name >= ticket.path.name:
                        break
                    living += not _buried(self.directory / name)
        except Timeout:
            return

    def enrol(self) -> Ticket:
        """Show to other processes, as long as this one lives, how many slots it reckons with.

        Raises:
          ConfigError: a process that is alive reckons with another number.
        """
        with self._alone():
            for name in self._names(_TICKET):  # as many as a campaign that was killed has left
                _buried(self.directory / name)
            names = [n for n in self._names(_MEMBER) if not _buried(self.directory / n)]
            others = {int(name.split("-")[0]) for name in names} - {self.slots}
            if others:
                raise ConfigError(
                    f"backend.max_concurrent: {self.slots}, but a running process that shares "
                    f"backend.throttle_dir = {self.directory} has {others.pop()}; "
                    "give all of them the same"
                )
            path = self.directory / f"{self.slots}-{uuid4().hex}{_MEMBER}"
            return Ticket(path, _take(path))

    def _names(self, kind: str) -> list[str]:
        # Asked at every look, hence no Path for each name.
        names = os.listdir(self.directory)  # noqa: PTH208
        return [name for name in names if _NAMES[kind].fullmatch(name)]

    @contextmanager
    def _alone(self, patience_s: float = _QUEUE_PATIENCE_S) -> Iterator[None]:
        path = self.directory / _QUEUE
        lock = FileLock(path, patience_s, thread_local=False)
        try:
            lock.acquire(poll_interval=0.003)
        except Timeout:
            if not patience_s:
                raise
            raise RunError(
                f"backend.throttle_dir: {path} has been locked for {patience_s:g} s; a process "
                "that holds it must have been stopped: end it or let it go on"
            ) from None
        try:
            yield
        finally:
            lock.release()


class Throttle:
    """Lets calls through, `slots` at a time; any thread may ask.

    Args:
      queue: shared with other processes; None to let everything through.
      patience_s: longest wait in which no call in front ends.
    """

    def __init__(self, queue: Queue | None, patience_s: float) -> None:
        self._queue = queue
        self._patience_s = patience_s
        self._member = queue.enrol() if queue else Ticket()
        self._closed = Event()
        self._lock = Lock()
        self._waited_s = 0.0

    def slot(self) -> AbstractContextManager[None]:
        """Wait for a turn, and keep it as long as the context.

        Raises:
          RunError: nothing moved for too long, the directory failed, or the throttle was closed.
        """
        return self._turn(self._queue) if self._queue else nullcontext()

    def take_waited_s(self) -> float:
        """Seconds that calls have waited for their turns since this was last asked, added up."""
        with self._lock:
            waited_s, self._waited_s = self._waited_s, 0.0
        return waited_s

    def close(self) -> None:
        """End all waits, and leave the directory to the others."""
        self._closed.set()
        if self._queue:
            self._queue.leave(self._member)

    @contextmanager
    def _turn(self, queue: Queue) -> Iterator[None]:
        ticket = Ticket()  # known here before it has a file, so that an interrupt leaves none
        try:
            started = monotonic()
            try:
                queue.join(ticket)
                self._wait(queue, ticket)
            # A border: the directory may have gone, or its disk may be full.
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

    def _wait(self, queue: Queue, ticket: Ticket) -> None:
        started = moved = searched = monotonic()
        ahead = first = fewest = queue.ahead(ticket)
        while ahead >= queue.slots:
            now, behind = monotonic(), ahead - queue.slots
            if ahead < fewest:
                fewest, moved = ahead, now
            if now - moved > self._patience_s:
                raise RunError(_stuck(queue, ahead, self._patience_s))
            if now - searched > min(_SEARCH_S + behind * _SEARCH_EACH_S, _LONGEST_SEARCH_S):
                queue.bury(ticket)
                searched = now
            expected_s = (behind + 1) * (now - started) / (first - fewest + 1)
            pause_s = min(max(_SHARE * expected_s, _SHORTEST_PAUSE_S), _LONGEST_PAUSE_S)
            if self._closed.wait(pause_s * _JITTER.uniform(0.5, 1.5)):
                raise RunError("the run ended while a call waited for its turn at the throttle")
            ahead = queue.ahead(ticket)


def open_throttle(directory: str, slots: int, patience_s: float = 7200.0) -> Throttle:
    """A throttle over all processes that open the same directory.

    Args:
      directory: made if it is not there; empty for a throttle that lets everything through and
        touches no file.
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
        f"backend.throttle_dir: {queue.directory}: waited for one of the {queue.slots} turns, and "
        f"none of the {ahead} calls in front ended for {patience_s:g} s; look for a process that "
        "hangs"
    )


def _take(path: Path) -> FileLock:
    """Lock a file that nobody else has."""
    lock = FileLock(path, thread_local=False)
    lock.acquire(blocking=False)
    return lock


def _drop(path: Path, lock: FileLock) -> None:
    # In this order because Windows removes no open file. Whoever takes the file for one of the
    # dead in between removes it as well; its name is used only once.
    lock.release()
    path.unlink(missing_ok=True)


def _buried(path: Path) -> bool:
    """Whether the file was nobody's; it is removed then."""
    try:
        lock = _take(path)
    except Timeout:
        return False
    _drop(path, lock)
    return True
