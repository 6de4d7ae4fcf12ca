"""One process that judges, from the parent's side. See `worker.py` for what they say."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from retrain_backends.types import Verdict

_START_S = 60.0  # longest that loading the judging code may take
_LONGEST_REPLY = 2**20
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]);"
    " from retrain_backends.rewards.worker import main; main()"
)
# Processes judge side by side, so each computes with one thread unless the user says otherwise.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Work:
    """What a process judges with, and within which limits.

    `load` is `module:attr`, a function that makes the judging function from `arguments`.
    """

    load: str
    timeout_s: float
    memory_mb: int
    arguments: Mapping[str, str] = field(default_factory=dict)


class StartError(Exception):
    """The process could not load what it was to judge with; the text says why."""


class WorkerProcess:
    """A process that has loaded its judging code. It is used for one item at a time.

    `usable` is False when it must not be given another item.
    """

    def __init__(self, process: Process, work: Work) -> None:
        self._process = process
        self._work = work
        self._asked = 0
        self.usable = True

    @classmethod
    async def start(cls, work: Work) -> Self:
        """Start a process and wait until it has loaded.

        Raises:
          StartError: it ended, took too long, or says what is wrong.
        """
        here = str(Path.cwd())
        path = [*sys.path, *([] if here in sys.path else [here])]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-P", "-c", _PROGRAM, json.dumps(path)),
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            limit=_LONGEST_REPLY,
            env={**_ONE_THREAD, **os.environ},
            start_new_session=True,  # Ctrl-C is for the run; and what it starts dies with it
        )
        worker = cls(process, work)
        try:
            await worker._greet()
        except BaseException:
            await worker.end()
            raise
        return worker

    async def ask(self, item: Mapping[str, Any]) -> Verdict:
        """The verdict on an item; none when the process fails, which is then not usable again."""
        self._asked += 1
        request = {"id": self._asked, "item": item}
        try:
            async with asyncio.timeout(self._work.timeout_s):
                reply = await self._exchange(request)
        except TimeoutError:
            self.usable = False
            return Verdict(None, f"no verdict within {self._work.timeout_s:g} s (reward.timeout_s)")
        except (OSError, EOFError):
            self.usable = False
            return Verdict(None, f"the process that judged it {await self._ending()}")
        except (ValueError, RecursionError):
            reply = {}
        if not _is_reply(reply, self._asked):
            self.usable = False
            return Verdict(None, "the process that judged it answered with garbage")
        self.usable = not reply["retire"]
        return Verdict(reply["value"], reply["reason"])

    async def end(self) -> None:
        """Kill the process and all that it started."""
        self.usable = False
        with suppress(ProcessLookupError, PermissionError):
            if sys.platform == "win32":
                self._process.kill()
            else:
                os.killpg(self._process.pid, signal.SIGKILL)
        await self._ending()
        if self._process.stdin is not None:
            self._process.stdin.close()

    async def _greet(self) -> None:
        work = self._work
        settings = {
            "load": work.load,
            "arguments": dict(work.arguments),
            "memory_mb": work.memory_mb,
            "timeout_s": work.timeout_s,
        }
        try:
            async with asyncio.timeout(_START_S):
                reply = await self._exchange(settings)
        except TimeoutError:
            raise StartError(f"loading it takes longer than {_START_S:g} s") from None
        except (OSError, EOFError, ValueError):
            raise StartError(f"the process that loads it {await self._ending()}") from None
        if not isinstance(reply, dict) or not reply.get("ready"):
            raise StartError(str(reply.get("error") if isinstance(reply, dict) else reply))

    async def _exchange(self, request: Mapping[str, Any]) -> Any:
        """Send one line and read one line.

        Raises:
          OSError, EOFError: the process has gone.
          ValueError: what it says is no JSON, or too long.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        await self._process.stdin.drain()
        line = await self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        return json.loads(line)

    async def _ending(self) -> str:
        """Wait for the end of the process, and say what it was."""
        try:
            async with asyncio.timeout(1):
                status = await self._process.wait()
        except TimeoutError:
            return "closed its pipe"
        return f"ended (exit status {status})" if status >= 0 else f"died of signal {-status}"


def _is_reply(reply: object, number: int) -> bool:
    """Whether it is an answer to the request of that number, and not something else's text."""
    if not isinstance(reply, dict) or reply.keys() != {"id", "value", "reason", "retire"}:
        return False
    kinds = isinstance(reply["value"], float | None) and isinstance(reply["reason"], str)
    return reply["id"] == number and kinds and isinstance(reply["retire"], bool)
