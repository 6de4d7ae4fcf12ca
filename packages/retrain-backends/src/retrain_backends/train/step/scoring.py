"""The scoring of one step, which begins while its completions are still being sampled."""

from collections.abc import Sequence

import numpy as np

from retrain_backends.rewards import RewardService
from retrain_backends.rewards.service import PendingVerdicts
from retrain_backends.tokenizer import Tokenizer
from retrain_backends.types import Completion, Prompt, Scored, Verdict


class StepScoring:
    """Hands each group to the reward as soon as it is sampled, and collects the verdicts.

    Args:
      reward: judges the completions.
      tokenizer: makes texts of them.
      prompts: of the step, in the order in which they are sampled.
    """

    def __init__(
        self, reward: RewardService, tokenizer: Tokenizer, prompts: Sequence[Prompt]
    ) -> None:
        self._reward = reward
        self._tokenizer = tokenizer
        self._prompts = prompts
        self._begun: dict[int, tuple[Sequence[Completion], PendingVerdicts]] = {}

    def begin(self, index: int, completions: Sequence[Completion]) -> None:
        """Begin to judge the completions of prompt `index`."""
        example = self._prompts[index].example
        texts = (self._tokenizer.decode(completion.tokens_T) for completion in completions)
        ticket = self._reward.submit([Scored(example, text) for text in texts])
        self._begun[index] = completions, ticket

    def texts(self, groups: Sequence[Sequence[Completion]]) -> list[str]:
        """The text of every completion of the step, in order.

        Groups that nobody has begun to judge, or that are not what was announced, are begun now.
        """
        for index, group in enumerate(groups):
            if index not in self._begun or not _are_same(self._begun[index][0], group):
                self.begin(index, group)
        return [item.response for ticket in self._tickets() for item in ticket.items]

    def verdicts(self) -> list[Verdict]:
        """Wait for the verdict on every completion, in order.

        Raises:
          RunError: too many have none.
        """
        return self._reward.collect(self._tickets())

    def _tickets(self) -> list[PendingVerdicts]:
        return [self._begun[index][1] for index in range(len(self._prompts))]


def _are_same(announced: Sequence[Completion], returned: Sequence[Completion]) -> bool:
    return len(announced) == len(returned) and all(
        np.array_equal(one.tokens_T, other.tokens_T)
        for one, other in zip(announced, returned, strict=True)
    )
