"""Rewards that run in worker processes: `math` and `custom`."""

import asyncio
import os
from typing import Self

from retrain_backends.boxed import extract_boxed
from retrain_backends.config import RewardConfig
from retrain_backends.dotted_names import require
from retrain_backends.errors import ConfigError, PluginError
from retrain_backends.rewards.pool import WorkerPool
from retrain_backends.rewards.process import StartError, WorkerSettings
from retrain_backends.rewards.verdict_cache import VerdictCache
from retrain_backends.types import Rollout, Verdict

_LONG_TEXT = 100_000  # characters, beyond which the search for the box would block the event loop


class MathScorer:
    """1.0 if math-verify finds the boxed answer equivalent to the reference, else 0.0.

    No answer is 0.0; an answer that equals the reference is 1.0 without a comparison.
    """

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool
        self._cache = VerdictCache()

    @classmethod
    def from_config(cls, config: RewardConfig) -> Self:
        """The scorer; worker processes start with the first answer that needs one.

        Raises:
          ConfigError: this is Windows.
          PluginError: math-verify is not installed.
        """
        _refuse_windows(config)
        require("math_verify", f"reward.type: `{config.type}`")
        load = "retrain_backends.rewards.equivalence:load_equivalence"
        return cls(
            WorkerPool(WorkerSettings(load, config.timeout_s, config.memory_mb), config.workers)
        )

    async def start(self) -> None:
        """Do nothing: there is nothing to check."""

    async def score(self, item: Rollout) -> Verdict:
        """The verdict."""
        answer, reference = await boxed_answer(item.completion), item.example.reference.strip()
        if not answer:
            return Verdict(0.0)
        if answer == reference:
            return Verdict(1.0)
        pair = {"answer": answer, "reference": reference}
        return await self._cache.get_or_judge((answer, reference), lambda: self._pool.judge(pair))

    async def close(self) -> None:
        """End the processes."""
        await self._pool.close()


class CustomScorer:
    """The float of the user's function. See `user_function.py` for its arguments.

    Nothing is cached: the function may return another value each time.
    """

    def __init__(self, pool: WorkerPool, name: str) -> None:
        self._pool = pool
        self._name = name

    @classmethod
    def from_config(cls, config: RewardConfig) -> Self:
        """Raise ConfigError unless `custom_module` is set, and on Windows."""
        _refuse_windows(config)
        if not config.custom_module:
            raise ConfigError(
                "reward.custom_module: the reward `custom` needs the module of your function, as"
                ' custom_module = "my_rewards" for my_rewards.py in the working directory'
            )
        where = {"module": config.custom_module, "function": config.custom_function}
        load = "retrain_backends.rewards.user_function:load_function"
        settings = WorkerSettings(load, config.timeout_s, config.memory_mb, where)
        return cls(
            WorkerPool(settings, config.workers), f"{config.custom_module}.{config.custom_function}"
        )

    async def start(self) -> None:
        """Load the function.

        Raises:
          PluginError: it cannot be loaded.
        """
        try:
            await self._pool.start()
        except StartError as error:
            raise PluginError(f"reward.custom_module: `{self._name}`: {error}") from error

    async def score(self, item: Rollout) -> Verdict:
        """The verdict."""
        example = item.example
        return await self._pool.judge(
            {
                "response": item.completion,
                "reference": example.reference,
                "question": example.question,
                "metadata": dict(example.metadata),
                "messages": [dict(message) for message in item.messages],
            }
        )

    async def close(self) -> None:
        """End the processes."""
        await self._pool.close()


def _refuse_windows(config: RewardConfig) -> None:
    if not hasattr(os, "fork"):
        raise ConfigError(
            f"reward.type: `{config.type}` needs `fork`, which Windows does not have; use Linux,"
            " macOS or WSL, or the reward `match`"
        )


async def boxed_answer(response: str) -> str | None:
    """`extract_boxed`, in a thread if the text is so long that it would block the event loop."""
    if len(response) > _LONG_TEXT:
        return await asyncio.to_thread(extract_boxed, response)
    return extract_boxed(response)
