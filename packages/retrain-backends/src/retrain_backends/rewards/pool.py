"""Processes that judge, as many at a time as allowed, and replaced when they fail.

A lane is a task that takes the items of a queue one after another and has its process judge them.
An item that takes long holds its lane up, so while it runs another lane may take its place:
items behind one that never ends do not wait for its time limit.
"""

import asyncio
import json
import os
from collections.abc import Mapping
from typing import Any, TypeAlias

from retrain_backends.rewards.process import Nursery, StartError, Work, WorkerProcess
from retrain_backends.types import Verdict

_LONG_S = 0.25  # an item that has been judged for so long holds its lane up
_MOST_SPARE = 8  # lanes beyond the allowed number, in place of those held up

Job: TypeAlias = tuple[str, asyncio.Future[Verdict]]  # the item as JSON, and who waits


class WorkerPool:
    """Judges items in processes. All methods belong to one event loop.

    Args:
      work: what the processes judge with, and their limits.
      size: how many judge at a time; 0 for one for each core that this process may use.
    """

    def __init__(self, work: Work, size: int = 0) -> None:
        self._work = work
        self._size = size or usable_cores()
        self._jobs: asyncio.Queue[Job] = asyncio.Queue()
        self._lanes: set[asyncio.Task[None]] = set()
        self._open = 0  # lanes that have not decided to end
        self._idle = 0
        self._held_up = 0
        self._closed = False
        self._nursery: Nursery | None = None
        self._loading = asyncio.Lock()

    async def start(self) -> None:
        """Load the judging code, to learn now whether that works.

        Raises:
          StartError: it does not.
        """
        await self._load()

    async def judge(self, item: Mapping[str, Any]) -> Verdict:
        """The verdict on an item, when its turn has come."""
        verdict: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._jobs.put_nowait((json.dumps(item), verdict))
        self._open_lane()
        return await verdict

    async def close(self) -> None:
        """End all processes; items that wait get no answer."""
        self._closed = True
        if self._nursery is not None:
            await self._nursery.close()
        for _ in self._lanes:
            self._jobs.put_nowait(("", asyncio.get_running_loop().create_future()))
        await asyncio.gather(*self._lanes)

    def _allowed(self) -> int:
        return self._size + min(self._held_up, _MOST_SPARE)

    def _open_lane(self) -> None:
        """One more lane, if an item waits for one and it is allowed."""
        if self._jobs.qsize() > self._idle and self._open < self._allowed():
            self._open += 1
            lane = asyncio.create_task(self._lane())
            self._lanes.add(lane)
            lane.add_done_callback(self._lanes.discard)

    async def _lane(self) -> None:
        process: WorkerProcess | None = None
        while self._open <= self._allowed():
            item, verdict = await self._next()
            if self._closed:
                break
            try:
                process = process or await self._make()
            except (StartError, OSError) as error:
                _answer(verdict, Verdict(None, f"no process to judge it: {error}"))
                continue
            _answer(verdict, await self._timed(process, item))
            if not process.usable:
                await process.end()
                process = None
        self._open -= 1
        if process is not None:
            await process.end()

    async def _next(self) -> Job:
        """The next item whose verdict is still wanted."""
        self._idle += 1
        while (job := await self._jobs.get())[1].done():
            pass
        self._idle -= 1
        return job

    async def _make(self) -> WorkerProcess:
        """A new process; what makes them is started, or started again, when it has to be."""
        nursery = await self._load()
        try:
            return await nursery.make()
        except StartError:
            await self._drop(nursery)
        return await (await self._load()).make()

    async def _load(self) -> Nursery:
        async with self._loading:
            if self._closed:
                raise StartError("the run is over")
            nursery = self._nursery = self._nursery or await Nursery.spawn(self._work)
            try:
                await nursery.load()
            except StartError:
                await self._drop(nursery)
                raise
            return nursery

    async def _drop(self, nursery: Nursery) -> None:
        if self._nursery is nursery and not self._closed:
            self._nursery = None
            await nursery.close()

    async def _timed(self, process: WorkerProcess, item: str) -> Verdict:
        """Have an item judged, and let another lane in when it takes long."""
        held_up = False

        def hold_up() -> None:
            nonlocal held_up
            held_up = True
            self._held_up += 1
            self._open_lane()

        timer = asyncio.get_running_loop().call_later(_LONG_S, hold_up)
        try:
            return await process.ask(item)
        finally:
            timer.cancel()
            self._held_up -= held_up


def usable_cores() -> int:
    """How many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _answer(verdict: asyncio.Future[Verdict], value: Verdict) -> None:
    if not verdict.done():  # nobody waits for it any more
        verdict.set_result(value)
