"""Scores completions while others are still being sampled."""

from collections.abc import Sequence
from dataclasses import dataclass

from retrain_backends.rewards import RewardService
from retrain_backends.rewards.service import PendingVerdicts
from retrain_backends.tokenizer import Tokenizer
from retrain_backends.types import Completion, Prompt, Rollout, Verdict


@dataclass(frozen=True)
class Judge:
    """Decodes completions and passes them to the reward."""

    reward: RewardService
    tokenizer: Tokenizer

    def scoring(self, prompts: Sequence[Prompt]) -> "Scoring":
        """The scoring of the completions of these prompts."""
        return Scoring(self, prompts)


class Scoring:
    """Passes each group to the reward as soon as it is sampled, and collects the verdicts.

    Args:
      judge: reward and tokenizer.
      prompts: their order is that of the results.
    """

    def __init__(self, judge: Judge, prompts: Sequence[Prompt]) -> None:
        self.prompts = prompts
        self._judge = judge
        self._groups: dict[int, Sequence[Completion]] = {}
        self._pending: dict[int, PendingVerdicts] = {}

    def begin(self, index: int, completions: Sequence[Completion]) -> None:
        """Start scoring the completions of prompt `index`."""
        prompt = self.prompts[index]
        rollouts = [
            _rollout(prompt, self._judge.tokenizer.decode(completion.tokens_T))
            for completion in completions
        ]
        self._groups[index] = completions
        self._pending[index] = self._judge.reward.submit(rollouts)

    def groups(self) -> list[Sequence[Completion]]:
        """The completions of each prompt; empty if a service failed to answer it."""
        return [self._groups.get(index, ()) for index in range(len(self.prompts))]

    def texts(self) -> list[str]:
        """The text of every completion, in the order of the prompts."""
        return [item.completion for batch in self._in_order() for item in batch.items]

    def verdicts(self) -> list[Verdict]:
        """Wait for the verdicts on all completions, in the order of the prompts.

        Raises:
          RunError: too many completions have no verdict.
        """
        return self._judge.reward.collect(self._in_order())

    def _in_order(self) -> list[PendingVerdicts]:
        return [self._pending[index] for index in sorted(self._pending)]


def _rollout(prompt: Prompt, text: str) -> Rollout:
    message = {"role": "assistant", "content": text}
    return Rollout(prompt.example, text, (*prompt.messages, message))
