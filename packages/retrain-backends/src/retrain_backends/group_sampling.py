"""Requests for groups of completions of a list of prompts."""

from collections.abc import Sequence
from dataclasses import dataclass

from retrain_backends.protocols import Sampler
from retrain_backends.randomness import Purpose
from retrain_backends.types import Completion, Request, SamplingParams, StreamKey, Tokens


@dataclass(frozen=True)
class GroupSampling:
    """Samples the same number of completions of every prompt.

    Args:
      seed: of the random streams, besides purpose, step and index of the prompt.
      group_size: completions of each prompt.
      max_tokens: the length at which a completion is cut off.
      params: parameters for the sampler.
    """

    seed: int
    group_size: int
    max_tokens: int
    params: SamplingParams

    def sample(
        self,
        sampler: Sampler,
        prompts: Sequence[Tokens],
        purpose: Purpose = Purpose.SAMPLE,
        step: int = 0,
    ) -> list[list[Completion]]:
        """The completions of each prompt, in order; empty where a service failed to answer."""
        groups = dict(sampler.sample(self.requests(prompts, purpose, step), self.params))
        return [groups.get(index, []) for index in range(len(prompts))]

    def requests(self, prompts: Sequence[Tokens], purpose: Purpose, step: int) -> list[Request]:
        """One request for each prompt."""
        samples = range(self.group_size)
        return [
            Request(prompt_T, StreamKey(self.seed, purpose, step, index), samples, self.max_tokens)
            for index, prompt_T in enumerate(prompts)
        ]
