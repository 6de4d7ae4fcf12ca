"""The completions of one step and their verdicts, in flat arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from retrain_backends.protocols import PlanningDetector
from retrain_backends.train.step.scoring import Scoring
from retrain_backends.types import (
    Completion,
    Floats,
    Mask,
    Prompt,
    Tokens,
    Verdict,
)
from retrain_core import (
    RunningCount,
    StepBookkeeping,
    offsets_from_lengths,
    step_bookkeeping,
)

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Samples:
    """The completions of one step, grouped by prompt.

    Arrays ending in `_t` hold the tokens of all completions end to end.
    """

    prompts: Sequence[Prompt]
    completions_n: Sequence[Completion]
    texts_n: Sequence[str]
    group_sizes_g: Indices
    planning_t: Mask

    @property
    def failed_prompts(self) -> int:
        """The number of prompts that a service failed to answer: their groups are empty."""
        return int((self.group_sizes_g == 0).sum())

    @cached_property
    def lengths_n(self) -> Indices:
        """Tokens of each completion."""
        return np.array([len(c.tokens_T) for c in self.completions_n], dtype=np.int64)

    @cached_property
    def group_n(self) -> Indices:
        """Index of the prompt of each completion."""
        return np.repeat(np.arange(len(self.prompts)), self.group_sizes_g)

    @cached_property
    def tokens_t(self) -> Tokens:
        """Token ids."""
        return _joined([c.tokens_T for c in self.completions_n], np.int64)

    @cached_property
    def logprobs_t(self) -> Floats:
        """Log-probabilities under the sampler, nats."""
        return _joined([c.logprobs_T for c in self.completions_n], np.float64)

    @cached_property
    def entropy_t(self) -> Floats | None:
        """Shannon entropies, nats; None unless they were requested."""
        entropies = [c.entropy_T for c in self.completions_n if c.entropy_T is not None]
        return _joined(entropies, np.float64) if len(entropies) == len(self.completions_n) else None

    @cached_property
    def trainable_t(self) -> Mask:
        """False for tokens that an environment wrote."""
        masks = [
            np.ones(len(c.tokens_T), np.bool_) if c.trainable_T is None else c.trainable_T
            for c in self.completions_n
        ]
        return _joined(masks, np.bool_)


def describe_samples(scoring: Scoring, detector: PlanningDetector) -> Samples:
    """Concatenate the sampled groups and mark their planning tokens."""
    groups = scoring.groups()
    return Samples(
        prompts=scoring.prompts,
        completions_n=[completion for group in groups for completion in group],
        texts_n=scoring.texts(),
        group_sizes_g=np.array([len(group) for group in groups], dtype=np.int64),
        planning_t=_joined(scoring.planning(detector), np.bool_),
    )


@dataclass(frozen=True)
class Judged:
    """The completions of a step with their verdicts.

    `steps_off_policy` is how many updates the policy that sampled them is behind: 0 or 1.
    """

    samples: Samples
    verdicts_n: Sequence[Verdict]
    steps_off_policy: int = 0

    @cached_property
    def scored_n(self) -> Mask:
        """False for completions without a verdict."""
        return np.array([verdict.value is not None for verdict in self.verdicts_n], dtype=np.bool_)

    @cached_property
    def rewards_n(self) -> Floats:
        """Rewards; 0 where `scored_n` is False."""
        return np.array([verdict.value or 0.0 for verdict in self.verdicts_n], dtype=np.float64)

    def tokens_of(self, chosen_n: Mask) -> Mask:
        """Mask of the tokens of the chosen completions."""
        return np.repeat(chosen_n, self.samples.lengths_n)


def count(judged: Judged, max_tokens: int, running: RunningCount) -> StepBookkeeping:
    """Rates, uniform groups and running counts over all completions of the step."""
    samples = judged.samples
    return step_bookkeeping(
        judged.rewards_n,
        offsets_from_lengths(samples.group_sizes_g),
        samples.lengths_n,
        max_tokens,
        judged.scored_n,
        running,
    )


def _joined(parts: Sequence[np.ndarray], dtype: type[np.generic]) -> npt.NDArray:
    return np.concatenate([np.empty(0, dtype), *parts])
