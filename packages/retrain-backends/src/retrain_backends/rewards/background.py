"""Rewards that score one completion at a time, in the background while others are sampled."""

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Protocol, Self

from retrain_backends.config import RewardConfig
from retrain_backends.dotted_names import load_object
from retrain_backends.errors import describe
from retrain_backends.loop_thread import LoopThread
from retrain_backends.types import Rollout, Verdict

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
        self._loop = LoopThread(scorer.close, "rewards")

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
