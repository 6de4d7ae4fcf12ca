"""A pool of worker processes that score items, and are replaced when they fail.

A worker is a task that takes items from a queue and has its process score them. While an item takes
long, an extra worker may run beside its own: the items behind one that never ends do not wait for
its time limit.
"""

import asyncio
import json
import os
from collections.abc import Mapping
from typing import Any, TypeAlias

from retrain_backends.rewards.process import ForkServer, StartError, WorkerProcess, WorkerSettings
from retrain_backends.types import Verdict

_SLOW_S = 0.25  # an item that takes longer is slow, and allows an extra worker
_MAX_EXTRA = 8  # workers beyond the size of the pool

Job: TypeAlias = tuple[str, asyncio.Future[Verdict]]  # the item as JSON, and its verdict


class WorkerPool:
    """Scores items in processes. All methods belong to one event loop.

    Args:
      settings: reward code and limits of the processes.
      size: number of workers; 0 for one for each core that this process may use.
    """

    def __init__(self, settings: WorkerSettings, size: int = 0) -> None:
        self._settings = settings
        self._size = size or usable_cores()
        self._jobs: asyncio.Queue[Job] = asyncio.Queue()
        self._workers: set[asyncio.Task[None]] = set()
        self._running = 0  # workers that have not decided to end
        self._idle = 0
        self._slow = 0
        self._closed = False
        self._fork_server: ForkServer | None = None
        self._loading = asyncio.Lock()

    async def start(self) -> None:
        """Load the reward code.

        Raises:
          StartError: it cannot be loaded.
        """
        await self._load()

    async def judge(self, item: Mapping[str, Any]) -> Verdict:
        """The verdict on an item, which is queued."""
        verdict: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._jobs.put_nowait((json.dumps(item), verdict))
        self._add_worker()
        return await verdict

    async def close(self) -> None:
        """End all processes; queued items get no verdict."""
        self._closed = True
        if self._fork_server is not None:
            await self._fork_server.close()
        for _ in self._workers:
            self._jobs.put_nowait(("", asyncio.get_running_loop().create_future()))
        await asyncio.gather(*self._workers)

    def _allowed(self) -> int:
        return self._size + min(self._slow, _MAX_EXTRA)

    def _add_worker(self) -> None:
        """Start another worker, if an item waits for one and the size allows it."""
        if self._jobs.qsize() > self._idle and self._running < self._allowed():
            self._running += 1
            worker = asyncio.create_task(self._run_worker())
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)

    async def _run_worker(self) -> None:
        process: WorkerProcess | None = None
        while self._running <= self._allowed():
            item, verdict = await self._next()
            if self._closed:
                break
            try:
                process = process or await self._make()
            except (StartError, OSError) as error:
                _answer(verdict, Verdict(None, f"no worker process: {error}"))
                continue
            _answer(verdict, await self._timed(process, item))
            if not process.usable:
                await process.end()
                process = None
        self._running -= 1
        if process is not None:
            await process.end()

    async def _next(self) -> Job:
        """The next item whose verdict is still awaited."""
        self._idle += 1
        while (job := await self._jobs.get())[1].done():
            pass
        self._idle -= 1
        return job

    async def _make(self) -> WorkerProcess:
        """A new process; the fork server is started, or restarted, if necessary."""
        fork_server = await self._load()
        try:
            return await fork_server.make()
        except StartError:
            await self._drop(fork_server)
        return await (await self._load()).make()

    async def _load(self) -> ForkServer:
        async with self._loading:
            if self._closed:
                raise StartError("the pool is closed")
            if self._fork_server is None:
                self._fork_server = await ForkServer.spawn(self._settings)
            fork_server = self._fork_server
            try:
                await fork_server.load()
            except StartError:
                await self._drop(fork_server)
                raise
            return fork_server

    async def _drop(self, fork_server: ForkServer) -> None:
        if self._fork_server is fork_server and not self._closed:
            self._fork_server = None
            await fork_server.close()

    async def _timed(self, process: WorkerProcess, item: str) -> Verdict:
        """Have an item scored; while it is slow, an extra worker is allowed."""
        slow = False

        def mark_slow() -> None:
            nonlocal slow
            slow = True
            self._slow += 1
            self._add_worker()

        timer = asyncio.get_running_loop().call_later(_SLOW_S, mark_slow)
        try:
            return await process.ask(item)
        finally:
            timer.cancel()
            self._slow -= slow


def usable_cores() -> int:
    """How many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _answer(verdict: asyncio.Future[Verdict], value: Verdict) -> None:
    if not verdict.done():  # it is not awaited any more
        verdict.set_result(value)
