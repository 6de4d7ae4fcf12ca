"""The backend under test, and what the checks do to it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

import numpy as np

from retrain_backends.protocols import Backend
from retrain_backends.types import Completion, Floats, SamplingParams, Tokens, TrainBatch

Groups = Sequence[Sequence[Completion]]


def _prompts() -> tuple[Tokens, ...]:
    return tuple(np.arange(5, 5 + length, dtype=np.int64) for length in (4, 7, 5))


def _params() -> SamplingParams:
    return SamplingParams(
        group_size=4, max_tokens=12, temperature=1.0, stop_token_ids=(0,), seed=7, step=0
    )


@dataclass(frozen=True)
class BackendCase:
    """How to make the backend under test, and what to feed it.

    Args:
      make: builds a new backend in its initial state; each check closes what it made. Its learning
        rate must be large enough for one step to change what is sampled.
      directory: an empty directory for the check's files.
      prompts: at least two prompts of the backend's vocabulary.
      params: how to sample; `group_size` at least 2.
      tolerance: largest error in a log-probability that the backend's arithmetic may make.
    """

    make: Callable[[], Backend]
    directory: Path
    prompts: Sequence[Tokens] = field(default_factory=_prompts)
    params: SamplingParams = field(default_factory=_params)
    tolerance: float = 1e-4

    @contextmanager
    def backend(self) -> Iterator[Backend]:
        """A new backend, closed at the end."""
        backend = self.make()
        try:
            yield backend
        finally:
            backend.close()

    def at_step(self, step: int) -> SamplingParams:
        """The same sampling with the streams of another step."""
        return replace(self.params, step=step)

    def batch(self, groups: Groups, *, advantages: Sequence[float] = (1.0, -0.5)) -> TrainBatch:
        """A training batch of all completions, whose advantages go round in turn."""
        rows = list(chain.from_iterable(groups))
        lengths = [len(row.tokens_T) for row in rows]
        per_row = np.resize(np.asarray(advantages, dtype=np.float64), len(rows))
        return TrainBatch(
            prompts=self.prompts[: len(groups)],
            group_offsets_g=_offsets([len(group) for group in groups]),
            token_offsets_n=_offsets(lengths),
            tokens_t=np.concatenate([row.tokens_T for row in rows]),
            logprobs_t=np.concatenate([row.logprobs_T for row in rows]),
            advantages_t=np.repeat(per_row, lengths),
            trained_t=np.ones(sum(lengths), dtype=np.bool_),
            temperature=self.params.temperature,
            step=self.params.step,
            seed=self.params.seed,
        )

    def run(self, backend: Backend, start: int, stop: int) -> list[tuple[list[list[int]], float]]:
        """Sample and train on what was sampled, step by step: each step's tokens and loss."""
        steps = []
        for step in range(start, stop):
            groups = backend.sample(self.prompts, self.at_step(step))
            result = backend.train_step(replace(self.batch(groups), step=step))
            steps.append((flat_tokens(groups), result.loss))
        return steps


def flat_tokens(groups: Groups) -> list[list[int]]:
    """The tokens of every completion, in order."""
    return [row.tokens_T.tolist() for group in groups for row in group]


def flat_logprobs(groups: Groups) -> Floats:
    """The log-probs of all completions end to end."""
    return np.concatenate([row.logprobs_T for group in groups for row in group])


def _offsets(lengths: Sequence[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
