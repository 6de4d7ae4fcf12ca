"""Measures how a backend samples: its speed, the hand-over of the adapter, and its log-probs."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retrain_backends.group_sampling import GroupSampling
from retrain_backends.protocols import Backend
from retrain_backends.randomness import Purpose
from retrain_backends.train.step.batches import BatchOrigin, batch_of
from retrain_backends.types import Completion, StepResult, Tokens


@dataclass(frozen=True)
class EngineFigures:
    """What was measured.

    `tokens`: that were sampled. `sample_s`: seconds for them, with the adapter in place.
    `handover_s`, `canary_s`: seconds to give an engine the adapter of a step, and to see that it
    is used; None where trainer and sampler share it. `mismatch_nats`: mean |engine - trainer| of
    the log-probs of the sampled tokens, at the sampling temperature. `train_s`: seconds of an
    optimiser step on these tokens.
    """

    tokens: int
    sample_s: float
    handover_s: float | None
    canary_s: float | None
    mismatch_nats: float
    train_s: float

    @property
    def tokens_per_s(self) -> float:
        """Sampled tokens a second."""
        return self.tokens / self.sample_s


class EngineMeasurement:
    """Measures a backend by sampling and by optimiser steps, which change its policy.

    Args:
      backend: what samples and trains.
      prompts: at least one.
      sampling: how many completions of each, and how long.
    """

    def __init__(
        self, backend: Backend, prompts: Sequence[Tokens], sampling: GroupSampling
    ) -> None:
        self._backend = backend
        self._prompts = prompts
        self._sampling = sampling
        self._step = 0

    def warm_up(self) -> None:
        """Sample once and take an optimiser step, so that nothing is done for the first time."""
        self._train(self._sample())

    def run(self) -> EngineFigures:
        """Sample with a new adapter, then again with it in place, then train."""
        self._backend.usage()
        self._sample()
        figures = self._backend.usage().figures
        started = time.perf_counter()
        groups = self._sample()
        sample_s = time.perf_counter() - started
        mismatch = self._mismatch(groups)
        started = time.perf_counter()
        self._train(groups)
        train_s = time.perf_counter() - started
        tokens = sum(len(row.tokens_T) for group in groups for row in group)
        return EngineFigures(
            tokens,
            sample_s,
            figures.get("handover_s"),
            figures.get("canary_s"),
            mismatch,
            train_s,
        )

    def _sample(self) -> list[list[Completion]]:
        self._step += 1
        sampler = self._backend.sampler
        return self._sampling.sample(sampler, self._prompts, Purpose.PROBE, self._step)

    def _train(self, groups: Sequence[Sequence[Completion]]) -> StepResult:
        params = self._sampling.params
        origin = BatchOrigin(params.temperature, self._step, self._sampling.seed)
        batch = batch_of(self._prompts, groups, (1.0, -1.0), origin)
        return self._backend.trainer.train(batch)

    def _mismatch(self, groups: Sequence[Sequence[Completion]]) -> float:
        rows = [
            (prompt_T, row)
            for prompt_T, group in zip(self._prompts, groups, strict=True)
            for row in group
        ]
        scores = self._backend.trainer.score(
            [prompt_T for prompt_T, _ in rows],
            [row.tokens_T for _, row in rows],
            self._sampling.params.temperature,
        )
        logprobs_t = np.concatenate([row.logprobs_T for _, row in rows])
        return float(np.abs(logprobs_t - np.concatenate(scores)).mean())
