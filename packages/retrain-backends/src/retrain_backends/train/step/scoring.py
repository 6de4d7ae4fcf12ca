"""Scores completions while others are still being sampled."""

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue

import numpy as np

from retrain_backends.planning import planning_masks
from retrain_backends.protocols import PlanningDetector
from retrain_backends.rewards import RewardService
from retrain_backends.rewards.service import PendingVerdicts
from retrain_backends.tokenizer import Tokenizer
from retrain_backends.train.step.clock import StepClock
from retrain_backends.types import Completion, Mask, Prompt, Rollout, Tokens, Verdict


@dataclass(frozen=True)
class Judge:
    """Decodes completions and passes them to the reward."""

    reward: RewardService
    tokenizer: Tokenizer

    def scoring(self, prompts: Sequence[Prompt]) -> "Scoring":
        """The scoring of the completions of these prompts."""
        return Scoring(self, prompts)


@dataclass
class _Group:
    """The completions of a prompt; `planning` as soon as it was asked for."""

    completions: Sequence[Completion]
    pending: PendingVerdicts
    planning: Sequence[Mask] | None = None

    @property
    def futures(self) -> Sequence[Future[Verdict]]:
        """The verdicts; none if a whole step is judged together."""
        return self.pending.futures or ()

    @property
    def tokens(self) -> list[Tokens]:
        """Token ids of each completion."""
        return [completion.tokens_T for completion in self.completions]


class Scoring:
    """Passes each group to the reward as soon as it is sampled, and collects the verdicts.

    Groups may be added in another thread than the one that reads results.

    Args:
      judge: reward and tokenizer.
      prompts: their order is that of the results.
    """

    def __init__(self, judge: Judge, prompts: Sequence[Prompt]) -> None:
        self.prompts = prompts
        self._judge = judge
        self._groups: dict[int, _Group] = {}
        # Prompt and value of each verdict that is there; None when nothing more is sampled.
        self._news: SimpleQueue[tuple[int, Verdict] | None] = SimpleQueue()

    def begin(self, index: int, completions: Sequence[Completion]) -> None:
        """Start scoring the completions of prompt `index`."""
        prompt = self.prompts[index]
        rollouts = [
            _rollout(prompt, self._judge.tokenizer.decode(completion.tokens_T))
            for completion in completions
        ]
        group = _Group(completions, self._judge.reward.submit(rollouts))
        self._groups[index] = group
        for verdict in group.futures:
            verdict.add_done_callback(partial(self._announce, index))

    def _announce(self, index: int, verdict: Future[Verdict]) -> None:
        if not verdict.cancelled():  # as the others are, once too many completions have no verdict
            self._news.put((index, verdict.result()))

    def end(self) -> None:
        """Note that all groups have begun."""
        self._news.put(None)

    def judged(self, clock: StepClock) -> Iterator["Scoring"]:
        """The groups that were judged since the last time, whenever there are any, until `end`.

        Groups whose reward judges a whole step together are left out. Ends early if `verdicts`
        would raise. Waiting is `sample` on the clock while groups are sampled, then `reward`.
        """
        seen: Counter[int] = Counter()
        ended, submitted, missing = False, 0, 0
        while not ended or seen.total() < submitted:
            with clock("reward" if ended else "sample"):
                news = [self._news.get()]
            while not self._news.empty():
                news.append(self._news.get())
            if None in news:
                ended, submitted = True, sum(len(g.futures) for g in self._groups.values())
            new = [verdict for verdict in news if verdict is not None]
            missing += sum(verdict.value is None for _, verdict in new)
            if ended and missing > self._judge.reward.max_failure_rate * submitted:
                return
            seen.update(index for index, _ in new)
            indices = sorted({index for index, _ in new})
            if whole := [i for i in indices if seen[i] == len(self._groups[i].futures)]:
                yield self._part(whole)

    def groups(self) -> list[Sequence[Completion]]:
        """The completions of each prompt; empty if a service failed to answer it."""
        return [
            self._groups[index].completions if index in self._groups else ()
            for index in range(len(self.prompts))
        ]

    def texts(self) -> list[str]:
        """The text of every completion, in the order of the prompts."""
        return [item.completion for group in self._in_order() for item in group.pending.items]

    def planning(self, detector: PlanningDetector) -> list[Mask]:
        """The planning tokens of every completion, in the order of the prompts."""
        new = [group for group in self._in_order() if group.planning is None]
        pieces = [self._judge.tokenizer.pieces(ids) for group in new for ids in group.tokens]
        masks = iter(planning_masks(detector, [texts for texts, _ in pieces]))
        sizes = iter([sizes for _, sizes in pieces])
        for group in new:
            group.planning = [np.repeat(next(masks), next(sizes)) for _ in group.completions]
        return [mask for group in self._in_order() for mask in group.planning or ()]

    def verdicts(self) -> list[Verdict]:
        """Wait for the verdicts on all completions, in the order of the prompts.

        Raises:
          RunError: too many completions have no verdict.
        """
        return self._judge.reward.collect([group.pending for group in self._in_order()])

    def known_verdicts(self) -> list[Verdict]:
        """The verdicts of groups that are judged, whatever share of them is missing."""
        return [verdict.result() for group in self._in_order() for verdict in group.futures]

    def _in_order(self) -> list[_Group]:
        return [self._groups[index] for index in sorted(self._groups)]

    def _part(self, indices: Sequence[int]) -> "Scoring":
        part = Scoring(self._judge, [self.prompts[index] for index in indices])
        part._groups = {place: self._groups[index] for place, index in enumerate(indices)}
        return part


def _rollout(prompt: Prompt, text: str) -> Rollout:
    message = {"role": "assistant", "content": text}
    return Rollout(prompt.example, text, (*prompt.messages, message))
