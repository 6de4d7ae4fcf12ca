"""Rewards that score one completion at a time, in the background while others are sampled."""

import asyncio
import atexit
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from typing import Any, Protocol, Self, TypeVar

from retrain_backends.config import RewardConfig
from retrain_backends.dotted_names import load_object
from retrain_backends.errors import describe
from retrain_backends.types import Rollout, Verdict

T = TypeVar("T")

_SCORERS = {
    "custom": "retrain_backends.rewards.isolated:CustomScorer",
    "judge": "retrain_backends.rewards.judge:JudgeScorer",
    "math": "retrain_backends.rewards.isolated:MathScorer",
}


class ItemScorer(Protocol):
    """Scores one completion at a time. All its coroutines run on one event loop."""

    async def start(self) -> None:
        """Check what can be checked before the first completion; an error ends the run."""
        ...

    async def score(self, item: Rollout) -> Verdict:
        """The verdict."""
        ...

    async def close(self) -> None:
        """Free processes and connections."""
        ...


class BackgroundReward:
    """A reward that runs an item scorer on an event loop in a thread of its own.

    A completion whose scorer raises has no verdict.
    """

    def __init__(self, scorer: ItemScorer) -> None:
        self._scorer = scorer
        self._loop = LoopThread(scorer.close)

    @classmethod
    def from_config(cls, config: RewardConfig) -> Self:
        """The reward `math`, `judge` or `custom`, checked as far as possible without completions.

        Raises:
          ConfigError, PluginError: a setting is missing or leads nowhere.
        """
        scorer = load_object(_SCORERS[config.type], f"reward.type: `{config.type}`")
        reward = cls(scorer.from_config(config))
        try:
            reward._loop.run(reward._scorer.start()).result()
        except BaseException:
            reward.close()
            raise
        return reward

    def submit(self, items: Sequence[Rollout]) -> list[Future[Verdict]]:
        """Start scoring; one future for each item, in order."""
        return [self._loop.run(self._judge(item)) for item in items]

    def score(self, items: Sequence[Rollout]) -> list[Verdict]:
        """One verdict for each item, in order."""
        return [future.result() for future in self.submit(items)]

    def close(self) -> None:
        """Stop scoring, and free processes and connections."""
        self._loop.close()

    async def _judge(self, item: Rollout) -> Verdict:
        # A border: the scorer calls the user's code and remote servers.
        try:
            return await self._scorer.score(item)
        except Exception as error:  # noqa: BLE001
            return Verdict(None, describe(error))


class LoopThread:
    """An event loop in a thread, started on first use.

    Args:
      close: makes the coroutine that frees what the others use, before they are cancelled.
    """

    def __init__(self, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._close = close
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine on the loop."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(
                target=self._loop.run_forever, name="rewards", daemon=True
            )
            self._thread.start()
            atexit.register(self.close)  # so that processes end when nobody calls `close`
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        """Run `close`, cancel all other coroutines, end the thread."""
        if self._loop is None or self._thread is None:
            return
        atexit.unregister(self.close)
        loop, thread = self._loop, self._thread
        self._loop = self._thread = None
        asyncio.run_coroutine_threadsafe(self._end(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    async def _end(self) -> None:
        await self._close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.get_running_loop().shutdown_asyncgens()
