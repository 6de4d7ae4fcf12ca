"""Processes that judge, as many at a time as allowed, and replaced when they fail.

A lane is a task that takes the items of a queue one after another and has its process judge them.
An item that takes long holds its lane up, so while it runs another lane may take its place:
items behind one that never ends do not wait for its time limit.
"""

import asyncio
import os
from collections.abc import Mapping
from typing import Any, TypeAlias

from retrain_backends.rewards.process import StartError, Work, WorkerProcess
from retrain_backends.types import Verdict

_LONG_S = 0.25  # an item that has been judged for so long holds its lane up
_MOST_SPARE = 8  # lanes beyond the allowed number, in place of those held up

Job: TypeAlias = tuple[Mapping[str, Any], asyncio.Future[Verdict]]


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
        self._spare: WorkerProcess | None = None
        self._problem: Exception | None = None  # why the last process did not start

    async def start(self) -> None:
        """Start a first process, to learn now whether that works.

        Raises:
          StartError: it does not.
        """
        self._spare = await WorkerProcess.start(self._work)

    async def judge(self, item: Mapping[str, Any]) -> Verdict:
        """The verdict on an item, when its turn has come."""
        verdict: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._jobs.put_nowait((item, verdict))
        self._open_lane()
        return await verdict

    async def close(self) -> None:
        """End all processes; items that wait get no answer."""
        lanes = list(self._lanes)
        for lane in lanes:
            lane.cancel()
        await asyncio.gather(*lanes, return_exceptions=True)
        if self._spare is not None:
            await self._spare.end()
            self._spare = None

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
        process, self._spare = self._spare, None
        try:
            while self._open <= self._allowed():
                item, verdict = await self._next()
                process = process or await self._start()
                if process is None:
                    _answer(verdict, Verdict(None, f"no process to judge it: {self._problem}"))
                    continue
                _answer(verdict, await self._timed(process, item))
                if not process.usable:
                    await process.end()
                    process = await self._start()  # now, so that the next item need not wait
        finally:
            self._open -= 1
            if process is not None:
                await process.end()

    async def _next(self) -> Job:
        """The next item whose verdict is still wanted."""
        self._idle += 1
        try:
            while (job := await self._jobs.get())[1].done():
                pass
            return job
        finally:
            self._idle -= 1

    async def _start(self) -> WorkerProcess | None:
        try:
            return await WorkerProcess.start(self._work)
        except (StartError, OSError) as error:
            self._problem = error
            return None

    async def _timed(self, process: WorkerProcess, item: Mapping[str, Any]) -> Verdict:
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
