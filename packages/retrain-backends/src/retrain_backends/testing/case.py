"""The backend under test, and operations that the checks share."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from retrain_backends.group_sampling import GroupSampling
from retrain_backends.protocols import Backend
from retrain_backends.randomness import Purpose
from retrain_backends.train.step.batches import BatchOrigin, batch_of
from retrain_backends.types import (
    Completion,
    Floats,
    Request,
    SamplingParams,
    Tokens,
    TrainBatch,
)

Groups = Sequence[Sequence[Completion]]


def _prompts() -> tuple[Tokens, ...]:
    return tuple(np.arange(5, 5 + length, dtype=np.int64) for length in (4, 7, 5))


def _sampling() -> GroupSampling:
    params = SamplingParams(temperature=1.0, stop_token_ids=(0,))
    return GroupSampling(seed=7, group_size=4, max_tokens=12, params=params)


@dataclass(frozen=True)
class BackendCase:
    """How to make the backend under test, and its inputs.

    Args:
      make: builds a new backend in its initial state; each check closes those it makes. The
        learning rate must be large enough for one step to change the sampled tokens.
      directory: an empty directory for the check's files.
      prompts: at least two prompts of the backend's vocabulary.
      sampling: how to sample; `group_size` at least 2.
      tolerance: the largest allowed error of a log-probability.
    """

    make: Callable[[], Backend]
    directory: Path
    prompts: Sequence[Tokens] = field(default_factory=_prompts)
    sampling: GroupSampling = field(default_factory=_sampling)
    tolerance: float = 1e-4

    @contextmanager
    def backend(self) -> Iterator[Backend]:
        """A new backend, closed at the end."""
        backend = self.make()
        try:
            yield backend
        finally:
            backend.close()

    def requests(self, *, step: int = 0, **changes: Any) -> list[Request]:
        """A request for a group of each prompt; `changes` override fields of `sampling`."""
        return replace(self.sampling, **changes).requests(self.prompts, Purpose.SAMPLE, step)

    def sample(self, backend: Backend, *, step: int = 0, **changes: Any) -> list[list[Completion]]:
        """Completions of every prompt; `changes` override the sampling parameters."""
        return self.sampled(backend, self.requests(step=step), **changes)

    def sampled(
        self, backend: Backend, requests: Sequence[Request], **changes: Any
    ) -> list[list[Completion]]:
        """The completions of each request, in order."""
        params = replace(self.sampling.params, **changes)
        groups = dict(backend.sampler.sample(requests, params))
        assert sorted(groups) == list(range(len(requests))), "every request has one result"
        return [groups[index] for index in range(len(requests))]

    def batch(self, groups: Groups, *, advantages: Sequence[float] = (1.0, -0.5)) -> TrainBatch:
        """A training batch of all completions, with the advantages repeated in turn."""
        origin = BatchOrigin(self.sampling.params.temperature, 0, self.sampling.seed)
        return batch_of(self.prompts[: len(groups)], groups, advantages, origin)

    def run(self, backend: Backend, start: int, stop: int) -> list[tuple[list[list[int]], float]]:
        """Sample and train for some steps; returns the tokens and the loss of each."""
        steps = []
        for step in range(start, stop):
            groups = self.sample(backend, step=step)
            result = backend.trainer.train(replace(self.batch(groups), step=step))
            steps.append((flat_tokens(groups), reported(result.loss)))
        return steps


def reported(figure: float | None) -> float:
    """A figure of a step, which must be there."""
    assert figure is not None, "a figure of the step is missing"
    return figure


def flat_tokens(groups: Groups) -> list[list[int]]:
    """The tokens of every completion, in order."""
    return [row.tokens_T.tolist() for group in groups for row in group]


def flat_logprobs(groups: Groups) -> Floats:
    """The log-probs of all completions, concatenated."""
    return np.concatenate([row.logprobs_T for group in groups for row in group])
