"""A small backend without a model, for tests and for trying out a configuration.

Its policy is a table of logits, one row for each prompt and token position; tokens do not depend
on each other. It is trained with the same policy gradient as a model (`retrain_core.policy_loss`)
and Adam, so it learns whatever such a policy can learn.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Self, TypeAlias
from zlib import crc32

import numpy as np
import numpy.typing as npt
from pydantic import Field

from retrain_backends.config import PolicySettings, read_backend_options
from retrain_backends.config.section import Section
from retrain_backends.randomness import Purpose, stream
from retrain_backends.types import (
    Capabilities,
    CheckpointRef,
    Completion,
    Facts,
    Floats,
    Request,
    Restored,
    SampledGroups,
    SamplerCapabilities,
    SamplingParams,
    StepResult,
    Tokens,
    TrainBatch,
    TrainerCapabilities,
    Usage,
)
from retrain_core import LossOptions, policy_loss

Indices: TypeAlias = npt.NDArray[np.int64]

STATE_FILE = "state.npz"
ADAPTER_FILE = "policy.npy"


class FakeOptions(Section):
    """`[backend.options]` of the fake backend."""

    vocab_size: int = Field(default=64, ge=2, description="Tokens are 0 to this, exclusive.")
    positions: int = Field(
        default=8,
        ge=1,
        description="Positions with their own logits; later ones share the last.",
    )
    buckets: int = Field(
        default=64, ge=1, description="Number of hash buckets that distinguish prompts."
    )
    spread: float = Field(default=1.0, ge=0, description="Standard deviation of initial logits.")
    steps_off_policy: int = Field(
        default=0, ge=0, le=1, description="1: sample the next step while this one trains."
    )


@dataclass(frozen=True)
class FakeTraining:
    """How the table is trained: Adam, and the bounds of the loss."""

    lr: float
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    bounds: LossOptions = field(default_factory=LossOptions)


class FakeBackend:
    """A table of logits, shape (buckets, positions, vocab_size), as a backend.

    It is its own trainer and its own sampler.
    """

    capabilities = Capabilities(
        TrainerCapabilities(lora_alpha=False, lora_dropout=False, resume="exact"),
        SamplerCapabilities(entropy=True),
    )

    def __init__(self, options: FakeOptions, training: FakeTraining, seed: int) -> None:
        shape = (options.buckets, options.positions, options.vocab_size)
        self._options = options
        self._training = training
        self._logits = options.spread * stream(seed, Purpose.ADAPTER).standard_normal(shape)
        self._mean = np.zeros(shape)
        self._square = np.zeros(shape)
        self._updates = 0

    @classmethod
    def from_config(cls, settings: PolicySettings) -> Self:
        """Make the table that the configuration describes.

        Raises:
          ConfigError: a wrong key or value in `[backend.options]`.
        """
        training = FakeTraining(
            lr=settings.lr,
            beta1=settings.optimizer.beta1,
            beta2=settings.optimizer.beta2,
            eps=settings.optimizer.eps,
            bounds=settings.loss,
        )
        options = read_backend_options(FakeOptions, settings.backend.options)
        return cls(options, training, settings.seed)

    @property
    def trainer(self) -> Self:
        """The backend itself."""
        return self

    @property
    def sampler(self) -> Self:
        """The backend itself."""
        return self

    @property
    def facts(self) -> Facts:
        """Bitwise deterministic, unless it samples a step off policy."""
        if not self._options.steps_off_policy:
            return Facts("fake", (), "bitwise", "a table of logits in float64, on one thread")
        reason = "the next step is sampled while this one trains; a resumed run starts on policy"
        return Facts("fake", (), "seeded", reason, self._options.steps_off_policy)

    def sample(self, requests: Sequence[Request], params: SamplingParams) -> SampledGroups:
        """Sample groups from the current table; later updates replace it and have no effect."""
        return self._sample(self._logits, requests, params)

    def _sample(
        self, logits: Floats, requests: Sequence[Request], params: SamplingParams
    ) -> SampledGroups:
        for index, request in enumerate(requests):
            logprobs_TV = _log_softmax(logits[self._bucket(request.prompt_T)], params.temperature)
            # Tokens are independent, so all positions are drawn at once.
            rows_TV = logprobs_TV[self._positions(np.arange(request.max_tokens))]
            yield (
                index,
                [
                    _complete(rows_TV, params, request.key.stream(sample))
                    for sample in request.samples
                ],
            )

    def score(
        self, prompts: Sequence[Tokens], completions: Sequence[Tokens], temperature: float
    ) -> list[Floats]:
        """Log-probs under the current table."""
        scores = []
        for prompt, tokens_T in zip(prompts, completions, strict=True):
            rows_TV = self._logits[self._bucket(prompt), self._positions(np.arange(len(tokens_T)))]
            scores.append(_of_tokens(_log_softmax(rows_TV, temperature), tokens_T))
        return scores

    def train(self, batch: TrainBatch) -> StepResult:
        """One step of Adam on the policy-gradient loss; none if the loss is not finite."""
        started = perf_counter()
        rows_t = self._rows(batch)
        logprobs_tV = _log_softmax(self._logits[rows_t], batch.temperature)
        result = policy_loss(
            _of_tokens(logprobs_tV, batch.tokens_t),
            batch.logprobs_t,
            batch.weighted_advantages_t,
            batch.trained_t,
            self._training.bounds,
        )
        # d logprob(token) / d logits = (one_hot(token) - softmax) / temperature
        slope_t1 = result.gradient[:, None] / (batch.temperature or 1.0)
        grad_tV = -slope_t1 * np.exp(logprobs_tV)
        grad_tV[np.arange(len(grad_tV)), batch.tokens_t] += slope_t1[:, 0]
        gradient = np.zeros_like(self._logits)
        np.add.at(gradient, rows_t, grad_tV)
        norm = float(np.linalg.norm(gradient))
        if np.isfinite(result.loss) and np.isfinite(norm):
            self._update(gradient)
        return StepResult(
            loss=result.loss,
            num_tokens=result.num_tokens,
            grad_norm=norm,
            mean_abs_logprob_diff=result.mean_abs_logprob_diff,
            kl_k3=result.kl_k3,
            ratio_p99=result.ratio_p99,
            ratio_max=result.ratio_max,
            clip_fraction=result.clip_fraction,
            times_s={"update": perf_counter() - started},
        )

    def save(self, directory: Path) -> CheckpointRef:
        """Write the table and the state of Adam."""
        np.savez(
            directory / STATE_FILE,
            logits=self._logits,
            mean=self._mean,
            square=self._square,
            updates=self._updates,
        )
        return CheckpointRef(directory)

    def load(self, ref: CheckpointRef) -> Restored:
        """Restore what `save` wrote, exactly."""
        with np.load(ref.directory / STATE_FILE, allow_pickle=False) as state:
            self._logits, self._mean, self._square = (
                state["logits"],
                state["mean"],
                state["square"],
            )
            self._updates = int(state["updates"])
        return Restored("exact", "the table and the state of Adam are restored byte for byte")

    def export_adapter(self, directory: Path) -> str:
        """Write the table as a numpy file; it is not a PEFT adapter."""
        np.save(directory / ADAPTER_FILE, self._logits)
        return str(directory)

    def usage(self) -> Usage:
        """Nothing is charged."""
        return Usage()

    def close(self) -> None:
        """Nothing to free."""

    def _rows(self, batch: TrainBatch) -> tuple[Indices, Indices]:
        """Bucket and position of every token of the batch."""
        lengths = np.diff(batch.token_offsets_n)
        buckets = [self._bucket(prompt) for prompt in batch.prompts]
        bucket_n = np.repeat(buckets, np.diff(batch.group_offsets_g))
        position_t = np.arange(len(batch.tokens_t)) - np.repeat(batch.token_offsets_n[:-1], lengths)
        return np.repeat(bucket_n, lengths), self._positions(position_t)

    def _positions(self, positions: Indices) -> Indices:
        return np.minimum(positions, self._options.positions - 1)

    def _bucket(self, prompt: Tokens) -> int:
        return crc32(prompt.tobytes()) % self._options.buckets

    def _update(self, gradient: Floats) -> None:
        adam = self._training
        self._updates += 1
        self._mean += (1 - adam.beta1) * (gradient - self._mean)
        self._square += (1 - adam.beta2) * (gradient**2 - self._square)
        mean = self._mean / (1 - adam.beta1**self._updates)
        square = self._square / (1 - adam.beta2**self._updates)
        self._logits = self._logits - adam.lr * mean / (np.sqrt(square) + adam.eps)


def _complete(
    logprobs_TV: Floats, params: SamplingParams, random: np.random.Generator
) -> Completion:
    uniforms, probs_TV = random.random(len(logprobs_TV)), np.exp(logprobs_TV)
    if params.temperature == 0:
        tokens = probs_TV.argmax(axis=1)
    else:
        drawn = (probs_TV.cumsum(axis=1) <= uniforms[:, None]).sum(axis=1)
        tokens = np.minimum(drawn, probs_TV.shape[1] - 1)
    stops = np.flatnonzero(np.isin(tokens, params.stop_token_ids))
    kept = slice(stops[0] + 1 if len(stops) else len(tokens))
    chosen = _of_tokens(logprobs_TV, tokens)
    entropy = -(probs_TV * logprobs_TV).sum(axis=1) if params.entropy else None
    return Completion(
        tokens_T=tokens[kept].astype(np.int64),
        logprobs_T=chosen[kept],
        stop_reason="stop" if len(stops) else "length",
        entropy_T=None if entropy is None else entropy[kept],
    )


def _log_softmax(logits: Floats, temperature: float) -> Floats:
    """Log-probabilities at the temperature, over the last axis; 0 means 1, as in sampling."""
    scaled = logits / (temperature or 1.0)
    scaled = scaled - scaled.max(axis=-1, keepdims=True)
    return scaled - np.log(np.exp(scaled).sum(axis=-1, keepdims=True))


def _of_tokens(logprobs_TV: Floats, tokens_T: Tokens) -> Floats:
    return np.take_along_axis(logprobs_TV, tokens_T[:, None], axis=1)[:, 0]
