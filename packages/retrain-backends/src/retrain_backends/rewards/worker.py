"""The program of a process that judges: it reads items, one JSON object a line, and answers.

Nothing that the judging code does reaches the parent except by these answers: the pipes are taken
away from its standard input and output first, memory is limited, and the parent ends the process
when the time is up. It imports the standard library only, and what it is told to judge with.

    parent: {"load": "module:attr", "arguments": {...}, "memory_mb": 1024, "timeout_s": 10.0}
    worker: {"ready": true}, or {"error": "why not"} and the end
    parent: {"id": 1, "item": {...}}
    worker: {"id": 1, "value": 1.0, "reason": "", "retire": false}
"""

import json
import math
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from io import BufferedReader, BufferedWriter
from pathlib import Path
from typing import Any, TypeAlias

from retrain_backends.errors import describe

try:
    import resource
except ImportError:  # Windows limits no memory
    resource = None

Item: TypeAlias = Mapping[str, Any]
Judge: TypeAlias = Callable[[Item], object]

_GRACE_S = 5.0  # how long after its time limit a worker ends itself if no parent did
_MEGABYTE = 2**20


class NoVerdictError(Exception):
    """Raised by judging code that cannot decide; its text is the reason, as it stands."""


def main() -> None:
    """Answer until the parent closes the pipe."""
    requests, replies = _take_pipes()
    settings = json.loads(requests.readline())
    # A border: what is loaded and called may be the user's own, and may try to leave.
    try:
        judge = _load(settings["load"])(**settings["arguments"])
    except BaseException as error:  # noqa: BLE001
        _send(replies, {"error": describe(error)})
        return
    loaded_bytes = _address_space_bytes()
    headroom_bytes = settings["memory_mb"] * _MEGABYTE
    _limit_memory(loaded_bytes + headroom_bytes)
    _send(replies, {"ready": True})
    while line := requests.readline():
        request = json.loads(line)
        _end_after(settings["timeout_s"] + _GRACE_S)
        value, reason, out_of_memory = _judge(judge, request["item"])
        _end_after(0)
        # Memory that leaks would one day be missing for an innocent item.
        leaked = _address_space_bytes() - loaded_bytes > headroom_bytes // 2
        retire = out_of_memory or leaked
        _send(replies, {"id": request["id"], "value": value, "reason": reason, "retire": retire})


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


def _load(name: str) -> Callable[..., Judge]:
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)


def _take_pipes() -> tuple[BufferedReader, BufferedWriter]:
    """Keep the pipes to the parent, and let standard input and output lead nowhere instead."""
    requests, replies = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
    return open(requests, "rb"), open(replies, "wb")  # noqa: PTH123 - descriptors, not paths


def _send(replies: BufferedWriter, reply: Mapping[str, object]) -> None:
    replies.write(json.dumps(reply).encode() + b"\n")
    replies.flush()


def _address_space_bytes() -> int:
    """Size of this process's address space; 0 where the system does not say (only Linux does)."""
    status = Path("/proc/self/statm")
    if not status.exists():
        return 0
    return int(status.read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def _limit_memory(most_bytes: int) -> None:
    """Make an allocation beyond so many bytes fail. Not every system can."""
    if resource is None:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = most_bytes if hard == resource.RLIM_INFINITY else min(most_bytes, hard)
    with suppress(ValueError, OSError):  # macOS refuses
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _end_after(seconds: float) -> None:
    """Have the system end this process, should the parent be gone; 0 takes that back.

    The system does it without asking Python, which a long computation may not let speak.
    """
    if sys.platform != "win32":
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds)
