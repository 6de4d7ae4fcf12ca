"""The values that the parts of a run hand to each other.

Shape suffixes: `_T` tokens of one completion, `_t` the tokens of a whole batch laid end to end,
`_n` completions. Log-probabilities and entropies are in nats, times in seconds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from retrain_backends.randomness import Purpose

Tokens: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Mask: TypeAlias = npt.NDArray[np.bool_]
StopReason: TypeAlias = Literal["stop", "length"]
Determinism: TypeAlias = Literal["bitwise", "seeded", "not controlled"]
Fidelity: TypeAlias = Literal["exact", "approximate", "cold"]


@dataclass(frozen=True)
class Example:
    """One row of a data set: what is asked and the answer it is checked against."""

    question: str
    reference: str
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Prompt:
    """An example as the model sees it: the text after the chat template, and its tokens."""

    example: Example
    text: str
    tokens: Tokens


@dataclass(frozen=True)
class SamplingParams:
    """How to sample, and which random streams to use.

    `(seed, purpose, step)` names the streams; prompt `i` of the call and completion `j` of its
    group use stream `(seed, purpose, step, first_prompt + i, j)`, one uniform number per token:
    prompts may be asked in several calls, each with its own `first_prompt`, to the same result;
    `num_prompts` is then how many they ask together (None: this call asks all), so that a backend
    can judge how many of them failed. A probe can do without any of its prompts.
    `temperature = 0` is greedy decoding (log-probs are then those at temperature 1).
    """

    group_size: int
    max_tokens: int
    temperature: float
    stop_token_ids: tuple[int, ...]
    seed: int
    step: int
    purpose: Purpose = Purpose.SAMPLE
    entropy: bool = False
    first_prompt: int = 0
    num_prompts: int | None = None


@dataclass(frozen=True)
class Completion:
    """One sampled answer.

    `logprobs_T` is under the distribution that the tokens were drawn from (at the sampling
    temperature), `entropy_T` the Shannon entropy of that distribution when it was asked for. The
    token that ended the completion is included. `trainable_T` is None when every token was sampled
    by the policy; False marks tokens that an environment wrote.
    """

    tokens_T: Tokens
    logprobs_T: Floats
    stop_reason: StopReason
    entropy_T: Floats | None = None
    trainable_T: Mask | None = None


OnGroup: TypeAlias = Callable[[int, Sequence[Completion]], None]
"""Told the index of a prompt and its completions, as soon as all of them are finished."""


@dataclass(frozen=True)
class Scored:
    """What a reward looks at: the example and the text of one completion."""

    example: Example
    response: str


@dataclass(frozen=True)
class Verdict:
    """A reward, or None with the reason why there is none. "No verdict" is never 0.

    `text` is what a judge said, for the logs.
    """

    value: float | None
    reason: str = ""
    text: str = ""


@dataclass(frozen=True)
class TrainBatch:
    """What one optimiser step trains on: completions of informative groups, tokens end to end.

    Rows of the same prompt are neighbours: `group_offsets_g[i]:group_offsets_g[i+1]` are the
    completions of `prompts[i]`, and `token_offsets_n[j]:token_offsets_n[j+1]` the tokens of
    completion `j` in the flat arrays. `trained_t` is the explicit mask of trained tokens; an
    advantage of 0 on a trained token still counts in N.
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


@dataclass(frozen=True)
class StepResult:
    """What a training step reports. Ratios and KL are of MATHS.md 6, before any clipping.

    `mean_abs_logprob_diff`: mean |new - old|; `kl_k3`: the k3 estimate of KL(old || new);
    `ratio_p99`, `ratio_max`: of exp(new - old); all over the trained tokens. `grad_norm` is None
    when a service does not tell. `times_s` holds the parts of the step by name.
    """

    loss: float
    num_tokens: int
    grad_norm: float | None
    mean_abs_logprob_diff: float
    kl_k3: float
    ratio_p99: float
    ratio_max: float
    clip_fraction: float
    times_s: Mapping[str, float]

    @property
    def is_finite(self) -> bool:
        """Whether loss and gradient are numbers, so that a step was taken."""
        return isfinite(self.loss) and (self.grad_norm is None or isfinite(self.grad_norm))


@dataclass(frozen=True)
class Capabilities:
    """What a backend can do; checked when a run is built, before any model is loaded.

    `lora_alpha`, `lora_dropout`: whether these settings are heeded.
    `resume`: "exact" continues bit for bit, "approximate" with the same weights and optimiser only.
    `temperature`: whether `train_step` and `score` divide logits by the sampling temperature; if
    not, both are at temperature 1 whatever they are asked for.
    """

    entropy: bool
    lora_alpha: bool
    resume: Literal["exact", "approximate"]
    temperature: bool = True
    lora_dropout: bool = True


@dataclass(frozen=True)
class BackendFacts:
    """What a backend that has been built says of itself, for the logs.

    Args:
      engine: what samples, such as `pytorch`.
      devices: what it runs on, such as `NVIDIA H200, 139.8 GiB`; the CPU is not named.
      determinism: what the same seed promises of a second run, as far as the backend is concerned.
      reason: why no more than that.
      steps_off_policy: how many optimiser steps a sample may lag behind the policy; with 1 the next
        step is sampled, from a second thread, while this one trains.
    """

    engine: str
    devices: tuple[str, ...]
    determinism: Determinism
    reason: str
    steps_off_policy: int = 0


@dataclass(frozen=True)
class CheckpointRef:
    """Names what `Backend.save` wrote: its directory, and the service's own path if it has one."""

    directory: Path
    remote: str = ""


@dataclass(frozen=True)
class Restored:
    """How a backend goes on from a checkpoint, as far as it could measure.

    `fidelity`: "exact" when nothing differs from the moment of saving, "approximate" when the
    policy is the same up to rounding or the optimiser could not be looked at, "cold" when the
    optimiser begins anew. `reason` says what was measured.
    """

    fidelity: Fidelity
    reason: str


@dataclass(frozen=True)
class Usage:
    """What a backend has used since it was last asked; `figures` go into the metrics row.

    `stop` says why the run should end after this step, as when its budget is spent; else empty.
    """

    figures: Mapping[str, float] = field(default_factory=dict)
    stop: str = ""
