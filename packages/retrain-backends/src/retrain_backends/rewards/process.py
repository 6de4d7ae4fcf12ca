"""Worker processes, from the run's side.

`supervisor.py`, `fork_server.py` and `worker.py` are the other side.
"""

import asyncio
import json
import os
import signal
import socket
import sys
from asyncio import StreamReader, StreamWriter
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self, TypeGuard

from retrain_backends.types import Verdict

_START_S = 60.0  # time limit of loading the reward code
_ANSWER_S = 5.0  # of forking or killing a worker, which takes milliseconds
_CLOSE_S = 10.0  # of killing all processes at the end, which takes milliseconds
_LONGEST_REPLY = 2**20
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]);"
    " from retrain_backends.rewards.supervisor import main; main()"
)
# Workers run side by side, so each computes with one thread unless the user sets another number.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True)
class WorkerSettings:
    """The reward code of a worker process, and its limits.

    `load` is `module:attr`, a function that makes the scoring function from `arguments`.
    """

    load: str
    timeout_s: float
    memory_mb: int
    arguments: Mapping[str, str] = field(default_factory=dict)


class StartError(Exception):
    """The reward code could not be loaded, or no worker forked; the text is the reason."""


class ForkServer:
    """A running `fork_server.py`. Its coroutines are never cancelled: each awaits its reply.

    `program` is its supervisor, which ends it when its standard input is closed. That is also done
    if a reply is late, since it would be taken for the next one.
    """

    def __init__(self, program: Process, control: socket.socket, settings: WorkerSettings) -> None:
        self._program = program
        self._control = control
        self._settings = settings
        self._turn = asyncio.Lock()
        self._loaded = False

    @classmethod
    async def spawn(cls, settings: WorkerSettings) -> Self:
        """Start the program, which then loads the reward code."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        here = str(Path.cwd())
        path = [*sys.path, *([] if here in sys.path else [here])]
        arguments = {**asdict(settings), "control": theirs.fileno()}
        with theirs:
            program = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-P", "-c", _PROGRAM, json.dumps(path), json.dumps(arguments)),
                stdin=PIPE,
                stdout=DEVNULL,
                stderr=DEVNULL,
                pass_fds=(theirs.fileno(),),
                env={**_ONE_THREAD, **os.environ},
                start_new_session=True,  # so that Ctrl-C reaches the run only
            )
        return cls(program, ours, settings)

    async def load(self) -> None:
        """Wait until the reward code is loaded.

        Raises:
          StartError: the program ended, takes too long, or reports an error.
        """
        if self._loaded:
            return
        try:
            async with self._turn, asyncio.timeout(_START_S):
                reply = await self._receive()
        except TimeoutError:
            raise StartError(f"loading it takes longer than {_START_S:g} s") from None
        except (OSError, EOFError, ValueError):
            status = await self._program.wait()
            raise StartError(f"the process that loads it {_ending(status)}") from None
        if "error" in reply:
            raise StartError(reply["error"])
        self._loaded = True

    async def make(self) -> "WorkerProcess":
        """Fork a worker.

        Raises:
          StartError: the program has ended, or the system allows no more processes.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                reply = await self._ask(b"new", theirs.fileno())
            except (OSError, EOFError, ValueError) as error:
                ours.close()
                raise StartError("the fork server has ended") from error
        streams = await asyncio.open_connection(sock=ours, limit=_LONGEST_REPLY)
        return WorkerProcess(self, reply["pid"], streams, self._settings.timeout_s)

    async def end(self, pid: int) -> int | None:
        """Kill a worker; its exit status, minus the number of a signal, None if unknown."""
        try:
            return (await self._ask(f"end {pid}".encode()))["status"]
        except (OSError, EOFError, ValueError):
            return None

    async def close(self) -> None:
        """End the program and all its descendants."""
        with suppress(OSError):
            self._control.shutdown(socket.SHUT_WR)
        self._end_program()
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self._program.wait()
        except TimeoutError:  # the supervisor was stopped
            with suppress(ProcessLookupError):
                os.killpg(self._program.pid, signal.SIGKILL)
            await self._program.wait()
        async with self._turn:  # pending requests fail first
            self._control.close()

    async def _ask(self, request: bytes, *descriptors: int) -> dict[str, Any]:
        async with self._turn:
            # A border: reward code can stop the program, which is its parent.
            try:
                async with asyncio.timeout(_ANSWER_S):
                    socket.send_fds(self._control, [request], descriptors)
                    return await self._receive()
            except TimeoutError:
                self._end_program()
                self._control.close()
                raise

    def _end_program(self) -> None:
        if self._program.stdin:
            self._program.stdin.close()

    async def _receive(self) -> dict[str, Any]:
        loop, line = asyncio.get_running_loop(), b""
        while not line.endswith(b"\n"):
            some = await loop.sock_recv(self._control, 4096)
            if not some:
                raise EOFError
            line += some
        return json.loads(line)


class WorkerProcess:
    """A process that scores one item at a time.

    `usable` is False once it must not get another item.
    """

    def __init__(
        self,
        fork_server: ForkServer,
        pid: int,
        streams: tuple[StreamReader, StreamWriter],
        timeout_s: float,
    ) -> None:
        self._fork_server = fork_server
        self._pid = pid
        self._reader, self._writer = streams
        self._timeout_s = timeout_s
        self._requests = 0
        self.usable = True

    async def ask(self, item: str) -> Verdict:
        """The verdict on an item, which is JSON; none if the process fails.

        It is then not usable any more.
        """
        self._requests += 1
        request, reply = f'{{"id": {self._requests}, "item": {item}}}\n', None
        try:
            async with asyncio.timeout(self._timeout_s):
                reply = await self._exchange(request)
        except TimeoutError:
            self.usable = False
            return Verdict(None, f"no verdict within {self._timeout_s:g} s (reward.timeout_s)")
        except (OSError, EOFError):
            return Verdict(None, f"the worker process {_ending(await self.end())}")
        except (ValueError, RecursionError):
            pass
        if not _is_reply(reply, self._requests):
            self.usable = False
            return Verdict(None, "the worker process sent an invalid reply")
        self.usable = not reply["retire"]
        return Verdict(reply["value"], reply["reason"])

    async def end(self) -> int | None:
        """Kill the process and its children; its exit status, if it is known."""
        if self._writer.is_closing():
            return None
        self.usable = False
        self._writer.transport.abort()
        return await self._fork_server.end(self._pid)

    async def _exchange(self, request: str) -> Any:
        """Send one line and read one line.

        Raises:
          OSError, EOFError: the process has ended.
          ValueError: the reply is not JSON, or too long.
        """
        self._writer.write(request.encode())
        await self._writer.drain()
        line = await self._reader.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        return json.loads(line)


def _ending(status: int | None) -> str:
    if status is None or status == -signal.SIGKILL:
        return "ended unexpectedly"
    return f"ended (exit status {status})" if status >= 0 else f"died of signal {-status}"


def _is_reply(reply: Any, number: int) -> TypeGuard[dict[str, Any]]:
    """Whether it is the reply to that request; reward code may have written to the socket."""
    if not isinstance(reply, dict) or reply.keys() != {"id", "value", "reason", "retire"}:
        return False
    kinds = isinstance(reply["value"], float | None) and isinstance(reply["reason"], str)
    return reply["id"] == number and kinds and isinstance(reply["retire"], bool)
