"""What a process that judges does: it reads items, one JSON object a line, and answers.

Memory is limited, and the process is killed from outside when the time is up. Its standard input
and output lead nowhere, so nothing that the judging code prints reaches anybody.

    asked:    {"id": 1, "item": {...}}
    answered: {"id": 1, "value": 1.0, "reason": "", "retire": false}
"""

import json
import math
import os
import resource
import signal
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from retrain_backends.errors import describe

Item: TypeAlias = Mapping[str, Any]
Judge: TypeAlias = Callable[[Item], object]

_MEGABYTE = 2**20
_NEARLY_FULL = 0.9
_GRACE_S = 5.0  # how long after its time limit a process ends itself, if nobody else does


class NoVerdictError(Exception):
    """Raised by judging code that cannot decide; its text is the reason, as it stands."""


class Limits(NamedTuple):
    """What judging one item may take: time, and memory beyond what the process has before it."""

    timeout_s: float
    memory_mb: int


def serve(channel: socket.socket, judge: Judge, limits: Limits) -> None:
    """Answer until the other end of the channel is closed.

    Args:
      channel: to who asks.
      judge: the judging code.
      limits: the memory is limited from now on; the time, should nobody be there to keep it.
    """
    loaded_bytes, headroom_bytes = _address_space_bytes(), limits.memory_mb * _MEGABYTE
    _limit_memory(loaded_bytes + headroom_bytes)
    this_process = os.getpid()
    with channel.makefile("rb") as requests, channel.makefile("wb") as replies:
        for line in requests:
            request = json.loads(line)
            _end_after(limits.timeout_s + _GRACE_S)
            value, reason, out_of_memory = _judge(judge, request["item"])
            if os.getpid() != this_process:  # a copy that the judging code made; it is not asked
                os._exit(0)
            _end_after(0)
            # Memory that leaks would one day be missing for an innocent item.
            leaked = _address_space_bytes() - loaded_bytes > headroom_bytes // 2
            answer = {"value": value, "reason": reason, "retire": out_of_memory or leaked}
            replies.write(json.dumps({"id": request["id"], **answer}).encode() + b"\n")
            replies.flush()


def verdict_of(result: object) -> float:
    """What judging code returned, as a finite number.

    Raises:
      NoVerdictError: it is None, a text, NaN, infinite, or no number at all.
    """
    if result is None:
        raise NoVerdictError("it returned None; a number is expected")
    if isinstance(result, str | bytes) or not hasattr(result, "__float__"):
        raise NoVerdictError(f"it returned a {type(result).__name__}; a number is expected")
    value = float(result)  # pyright: ignore[reportArgumentType]
    if not math.isfinite(value):
        raise NoVerdictError(f"the reward is {value}")
    return value


def memory_has_been_full() -> bool:
    """Whether this process has once had nearly all the memory that it may have (Linux only)."""
    status, (limit, _) = Path("/proc/self/status"), resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY or not status.exists():
        return False
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(fields["VmPeak"].split()[0]) * 1024 > _NEARLY_FULL * limit


def _judge(judge: Judge, item: Item) -> tuple[float | None, str, bool]:
    """Value, reason for there being none, and whether memory ran out."""
    # A border: whatever the judging code raises costs this item only.
    try:
        return verdict_of(judge(item)), "", False
    except NoVerdictError as error:
        return None, str(error), False
    except MemoryError:
        return None, "out of memory (see reward.memory_mb)", True
    except BaseException as error:  # noqa: BLE001
        return None, describe(error), False


def _address_space_bytes() -> int:
    """Size of this process's address space; 0 where the system does not say (only Linux does)."""
    status = Path("/proc/self/statm")
    if not status.exists():
        return 0
    return int(status.read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def _limit_memory(most_bytes: int) -> None:
    """Make an allocation beyond so many bytes fail. Not every system can."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = most_bytes if hard == resource.RLIM_INFINITY else min(most_bytes, hard)
    with suppress(ValueError, OSError):  # macOS refuses
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _end_after(seconds: float) -> None:
    """Have the system end this process, should everybody else be gone; 0 takes that back.

    The system does it without asking Python, which a long computation may not let speak. Judging
    code that handles the signal itself, for a time limit of its own, is left to that.
    """
    signal.setitimer(signal.ITIMER_REAL, seconds)
