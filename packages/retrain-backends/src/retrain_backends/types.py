"""The values that the parts of a run exchange.

Shape suffixes: `_T` tokens of one completion, `_t` the concatenated tokens of a whole batch, `_n`
completions. Log-probabilities and entropies are in nats, times in seconds.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from retrain_backends.randomness import Purpose, stream

Tokens: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Mask: TypeAlias = npt.NDArray[np.bool_]
StopReason: TypeAlias = Literal["stop", "length"]
Determinism: TypeAlias = Literal["bitwise", "seeded", "not controlled"]
DETERMINISM: tuple[Determinism, ...] = get_args(Determinism)  # strongest first
Fidelity: TypeAlias = Literal["exact", "approximate", "cold"]

Message: TypeAlias = Mapping[str, str]
"""One message of a conversation: `role` and `content`."""


@dataclass(frozen=True)
class Example:
    """One row of a data set: a question and its reference answer."""

    question: str
    reference: str
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Prompt:
    """An example as the model sees it: messages, text after the chat template, and tokens."""

    example: Example
    text: str
    tokens: Tokens
    messages: Sequence[Message] = ()


@dataclass(frozen=True)
class StreamKey:
    """Names the random streams of a prompt's completions.

    Completion `j` draws from `stream(seed, purpose, step, prompt, j, turn=turn)`, one uniform
    number per token, so it does not depend on the other completions of the call.
    """

    seed: int
    purpose: Purpose
    step: int
    prompt: int
    turn: int = 0

    def stream(self, sample: int) -> np.random.Generator:
        """The stream of one completion, at its start."""
        return stream(self.seed, self.purpose, self.step, self.prompt, sample, turn=self.turn)


@dataclass(frozen=True)
class Request:
    """Completions to sample for one prompt.

    Args:
      prompt_T: token ids, at least one.
      key: names the random streams.
      samples: indices of the completions, each of which has its own stream.
      max_tokens: the length at which a completion is cut off.
    """

    prompt_T: Tokens
    key: StreamKey
    samples: Sequence[int]
    max_tokens: int


@dataclass(frozen=True)
class SamplingParams:
    """How to sample, for all requests of a call.

    `temperature = 0` is greedy decoding; log-probs are then those at temperature 1. `entropy`
    requests the entropy of every token's distribution.
    """

    temperature: float
    stop_token_ids: tuple[int, ...]
    entropy: bool = False


@dataclass(frozen=True)
class Completion:
    """One sampled completion.

    `logprobs_T` are under the distribution that the tokens were drawn from (at the sampling
    temperature), `entropy_T` is the Shannon entropy of that distribution, if requested. The stop
    token is included. `trainable_T` is False for tokens of an environment; None: there are none.
    """

    tokens_T: Tokens
    logprobs_T: Floats
    stop_reason: StopReason
    entropy_T: Floats | None = None
    trainable_T: Mask | None = None


SampledGroups: TypeAlias = Generator[tuple[int, list[Completion]], None, None]
"""Yields the index of a request and its completions, as they finish."""


@dataclass(frozen=True)
class Rollout:
    """What a reward judges: an example with the policy's completion.

    Args:
      example: the question, its reference answer and its metadata.
      completion: the last text of the policy.
      messages: the whole conversation, including the prompt; empty if only the text of a
        completion is known.
    """

    example: Example
    completion: str
    messages: Sequence[Message] = ()


@dataclass(frozen=True)
class Verdict:
    """A reward, or None with the reason why there is none. "No verdict" is never 0.

    `text` is the reply of a judge, for the logs.
    """

    value: float | None
    reason: str = ""
    text: str = ""


@dataclass(frozen=True)
class TrainBatch:
    """What one optimiser step trains on: completions of informative groups, concatenated.

    Rows of the same prompt are adjacent: `group_offsets_g[i]:group_offsets_g[i+1]` are the
    completions of `prompts[i]`, and `token_offsets_n[j]:token_offsets_n[j+1]` the tokens of
    completion `j` in the flat arrays. `trained_t` is the explicit mask of trained tokens; an
    advantage of 0 on a trained token still counts in N. `weights_t` are the tokens' weights in the
    loss, >= 0 (None: 1 each); `reference_logprobs_t` the log-probs under a reference policy, nats,
    for losses that have a KL term (None: there is no such term).
    """

    prompts: Sequence[Tokens]
    group_offsets_g: npt.NDArray[np.int64]
    token_offsets_n: npt.NDArray[np.int64]
    tokens_t: Tokens
    logprobs_t: Floats
    advantages_t: Floats
    trained_t: Mask
    temperature: float
    step: int
    seed: int
    weights_t: Floats | None = None
    reference_logprobs_t: Floats | None = None

    @property
    def weighted_advantages_t(self) -> Floats:
        """Advantages times the tokens' weights in the loss."""
        return self.advantages_t if self.weights_t is None else self.advantages_t * self.weights_t


@dataclass(frozen=True)
class StepResult:
    """The result of a training step. Ratios and KL are before any clipping.

    `mean_abs_logprob_diff`: mean |new - old|; `kl_k3`: the k3 estimate of KL(old || new);
    `ratio_p99`, `ratio_max`: of exp(new - old); all over the trained tokens. None: a service did
    not report it. `times_s` has the times of the parts of the step, by name.
    """

    loss: float | None
    num_tokens: int
    grad_norm: float | None
    mean_abs_logprob_diff: float | None
    kl_k3: float | None
    ratio_p99: float | None
    ratio_max: float | None
    clip_fraction: float | None
    times_s: Mapping[str, float]

    @property
    def is_finite(self) -> bool:
        """Whether loss and gradient are finite, so that a step was taken."""
        return all(isfinite(value) for value in (self.loss, self.grad_norm) if value is not None)


@dataclass(frozen=True)
class TrainerCapabilities:
    """What a trainer can do; checked when a run is built, before any model is loaded.

    `lora_alpha`, `lora_dropout`: whether these settings are supported.
    `resume`: "exact" continues bit for bit, "approximate" with the same weights and optimiser only.
    `temperature`: whether `train` and `score` divide logits by the sampling temperature; if not,
    both always use temperature 1. `parts`: whether it is a `PartsTrainer`.
    """

    lora_alpha: bool
    lora_dropout: bool
    resume: Literal["exact", "approximate"]
    temperature: bool = True
    parts: bool = False


@dataclass(frozen=True)
class SamplerCapabilities:
    """What a sampler can do; checked when a run is built, before any model is loaded.

    `entropy`: whether it reports the entropy of every token's distribution.
    `logprobs`: the distribution of its log-probs: "tempered" at the sampling temperature, "raw" at
    temperature 1, "truncated" after top-k, top-p or min-p.
    """

    entropy: bool
    logprobs: Literal["tempered", "raw", "truncated"] = "tempered"


@dataclass(frozen=True)
class Capabilities:
    """What a backend declares: the capabilities of its trainer and of its sampler."""

    trainer: TrainerCapabilities
    sampler: SamplerCapabilities


@dataclass(frozen=True)
class Facts:
    """What a trainer or a sampler reports about itself once it is built, for the logs.

    Args:
      engine: its name, such as `pytorch`.
      devices: its devices, such as `NVIDIA H200, 139.8 GiB`; the CPU is not listed.
      determinism: what a second run with the same seed reproduces.
      reason: the reason for that level.
      steps_off_policy: of a sampler, how many optimiser steps a sample may lag behind the policy.
      separate: of a sampler, whether it runs beside the trainer, as a server does.
    """

    engine: str
    devices: tuple[str, ...]
    determinism: Determinism
    reason: str
    steps_off_policy: int = 0
    separate: bool = False

    def together_with(self, other: "Facts") -> "Facts":
        """The facts of both: all devices, and the weaker determinism."""
        weaker = max(self, other, key=lambda facts: DETERMINISM.index(facts.determinism))
        return replace(
            self,
            devices=tuple(dict.fromkeys([*self.devices, *other.devices])),
            determinism=weaker.determinism,
            reason=weaker.reason,
        )


@dataclass(frozen=True)
class CheckpointRef:
    """Refers to what `Trainer.save` wrote: its directory, and the path at a service if any."""

    directory: Path
    remote: str = ""


@dataclass(frozen=True)
class Restored:
    """How exactly a backend was restored from a checkpoint, as far as it could measure.

    `fidelity`: "exact" if nothing differs from the moment of saving, "approximate" if the policy is
    equal up to rounding or the optimiser could not be checked, "cold" if the optimiser starts
    anew. `reason` says what was measured.
    """

    fidelity: Fidelity
    reason: str


@dataclass(frozen=True)
class Usage:
    """What a backend has used since the last call; `figures` are added to the metrics row.

    `stop` is the reason to end the run after this step, such as a spent budget; else empty.
    """

    figures: Mapping[str, float] = field(default_factory=dict)
    stop: str = ""
