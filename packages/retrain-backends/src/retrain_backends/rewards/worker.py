"""A worker process: it reads items, one JSON object a line, and writes verdicts.

Memory is limited, and the process is killed from outside when the time is up. Standard input and
output are `/dev/null`, so what the reward code prints is dropped.

    request: {"id": 1, "item": {...}}
    reply:   {"id": 1, "value": 1.0, "reason": "", "retire": false}
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
_GRACE_S = 5.0  # after its time limit a process ends itself, if the run has not killed it


class NoVerdictError(Exception):
    """Raised by reward code that has no verdict; its text is the reason."""


class ResourceLimits(NamedTuple):
    """Limits of scoring one item: time, and memory beyond that of the loaded process."""

    timeout_s: float
    memory_mb: int


def serve(channel: socket.socket, judge: Judge, limits: ResourceLimits) -> None:
    """Serve requests until the other end of the channel is closed.

    Args:
      channel: to the run.
      judge: the reward code.
      limits: of memory from now on; of time only in case the run does not enforce it.
    """
    loaded_bytes, headroom_bytes = _address_space_bytes(), limits.memory_mb * _MEGABYTE
    _limit_memory(loaded_bytes + headroom_bytes)
    this_process = os.getpid()
    with channel.makefile("rb") as requests, channel.makefile("wb") as replies:
        for line in requests:
            request = json.loads(line)
            _end_after(limits.timeout_s + _GRACE_S)
            value, reason, out_of_memory = _judge(judge, request["item"])
            if os.getpid() != this_process:  # a fork made by the reward code
                os._exit(0)
            _end_after(0)
            # Leaked memory would be missing for a later item.
            leaked = _address_space_bytes() - loaded_bytes > headroom_bytes // 2
            answer = {"value": value, "reason": reason, "retire": out_of_memory or leaked}
            replies.write(json.dumps({"id": request["id"], **answer}).encode() + b"\n")
            replies.flush()


def verdict_of(result: object) -> float:
    """The result of reward code as a finite number.

    Raises:
      NoVerdictError: it is None, a text, NaN, infinite, or not a number.
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
    """Whether this process has ever used nearly all the memory it is allowed (Linux only)."""
    status, (limit, _) = Path("/proc/self/status"), resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY or not status.exists():
        return False
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(fields["VmPeak"].split()[0]) * 1024 > _NEARLY_FULL * limit


def _judge(judge: Judge, item: Item) -> tuple[float | None, str, bool]:
    """Value, the reason if there is none, and whether memory ran out."""
    # A border: an error of the reward code affects this item only.
    try:
        return verdict_of(judge(item)), "", False
    except NoVerdictError as error:
        return None, str(error), False
    except MemoryError:
        return None, "out of memory (see reward.memory_mb)", True
    except BaseException as error:  # noqa: BLE001
        return None, describe(error), False


def _address_space_bytes() -> int:
    """Size of this process's address space; 0 where the system does not report it (not Linux)."""
    status = Path("/proc/self/statm")
    if not status.exists():
        return 0
    return int(status.read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def _limit_memory(most_bytes: int) -> None:
    """Make allocations beyond so many bytes fail, where the system supports it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = most_bytes if hard == resource.RLIM_INFINITY else min(most_bytes, hard)
    with suppress(ValueError, OSError):  # macOS refuses
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _end_after(seconds: float) -> None:
    """Have the system end this process after so many seconds; 0 cancels that.

    The default action of the signal needs no Python code, which a long C computation would delay.
    Reward code that handles the signal itself, for a time limit of its own, keeps its handler.
    """
    signal.setitimer(signal.ITIMER_REAL, seconds)
