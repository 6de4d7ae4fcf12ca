"""Batches in the form of the service, and its outputs.

Position `i` of an input predicts target `i`, so inputs are all tokens but the last, targets all but
the first, and log-probs and advantages belong to targets: 0 on the prompt. The service sums the
loss over positions, so advantages are divided by the number of trained tokens (MATHS.md 6).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tinker

from retrain_backends.types import Floats, Tokens, TrainBatch
from retrain_core import LossOptions


@dataclass(frozen=True)
class ServiceLoss:
    """A loss by the service's name for it, with its settings."""

    name: tinker.types.LossFnType
    config: Mapping[str, float] | None

    @classmethod
    def of(cls, options: LossOptions) -> "ServiceLoss":
        """The loss of `retrain_core.policy_loss` with the same bounds on the ratio.

        Clipping is the service's `ppo`. A capped constant weight is its `cispo`, with no lower end.
        """
        if options.importance_cap is not None:
            bounds = {"clip_low_threshold": 0.0, "clip_high_threshold": options.importance_cap}
            return cls("cispo", bounds)
        if options.clip_eps is None:
            return cls("importance_sampling", None)
        high = options.clip_eps if options.clip_eps_high is None else options.clip_eps_high
        bounds = {"clip_low_threshold": 1.0 - options.clip_eps, "clip_high_threshold": 1.0 + high}
        return cls("ppo", bounds)


def rows(batch: TrainBatch) -> Iterator[tuple[Tokens, slice]]:
    """The prompt of every completion, and the slice of its tokens."""
    for index, prompt in enumerate(batch.prompts):
        first, end = batch.group_offsets_g[index : index + 2]
        for row in range(first, end):
            yield prompt, slice(*batch.token_offsets_n[row : row + 2])


def has_gradient(batch: TrainBatch) -> bool:
    """Whether the advantages leave a gradient: those of equal completions may cancel out."""
    weights_t = np.where(batch.trained_t, batch.weighted_advantages_t, 0.0)
    sums: dict[tuple[bytes, bytes], Floats] = {}
    for prompt, own in rows(batch):
        key = prompt.tobytes(), batch.tokens_t[own].tobytes()
        sums[key] = sums.get(key, 0.0) + weights_t[own]
    rounding = 1e-9 * np.abs(weights_t).max(initial=0.0)
    return any((np.abs(sum_T) > rounding).any() for sum_T in sums.values())


def datums_to_train(batch: TrainBatch) -> list[tinker.Datum]:
    """One datum for each completion of the batch, with the advantages divided by N."""
    weights_t = np.where(batch.trained_t, batch.weighted_advantages_t, 0.0)
    weights_t /= max(1, batch.trained_t.sum())
    logprobs_t = np.where(batch.trained_t, batch.logprobs_t, 0.0)
    datums = []
    for prompt, own in rows(batch):
        datums.append(
            _datum(
                prompt,
                batch.tokens_t[own],
                {"logprobs": logprobs_t[own], "advantages": weights_t[own]},
            )
        )
    return datums


def datums_to_score(prompts: Sequence[Tokens], completions: Sequence[Tokens]) -> list[tinker.Datum]:
    """Datums of completions that are scored, not trained on."""
    return [
        _datum(prompt, tokens_T, {"weights": np.ones(len(tokens_T))})
        for prompt, tokens_T in zip(prompts, completions, strict=True)
    ]


def datums_without_gradient(
    prompts: Sequence[Tokens], completions: Sequence[Tokens]
) -> list[tinker.Datum]:
    """Datums with advantages of 0, hence a gradient of 0, so that a step tests the optimiser."""
    nothing = (np.zeros(len(tokens_T)) for tokens_T in completions)
    return [
        _datum(prompt, tokens_T, {"logprobs": zeros, "advantages": zeros})
        for prompt, tokens_T, zeros in zip(prompts, completions, nothing, strict=True)
    ]


def split_by_tokens(
    datums: Sequence[tinker.Datum], most_tokens: int
) -> Iterator[list[tinker.Datum]]:
    """The datums in order, in parts of at most so many tokens; a longer datum is a part alone."""
    part: list[tinker.Datum] = []
    tokens = 0
    for datum in datums:
        tokens += datum.model_input.length
        if part and tokens > most_tokens:
            yield part
            part, tokens = [], datum.model_input.length
        part.append(datum)
    if part:
        yield part


def completion_logprobs(
    outputs: Sequence[Mapping[str, Any]], lengths: Sequence[int]
) -> list[Floats]:
    """The log-probs of the tokens of each completion in the service's outputs.

    Raises:
      ValueError: the number of outputs or log-probs is wrong.
    """
    if len(outputs) != len(lengths):
        raise ValueError(f"{len(outputs)} outputs for {len(lengths)} completions")
    found = []
    for output, length in zip(outputs, lengths, strict=True):
        logprobs = np.asarray(output["logprobs"].tolist(), np.float64)
        if len(logprobs) < length:
            raise ValueError(f"{len(logprobs)} log-probs for a completion of {length} tokens")
        found.append(logprobs[len(logprobs) - length :])
    return found


def _datum(prompt: Tokens, tokens_T: Tokens, values: Mapping[str, Floats]) -> tinker.Datum:
    """Prompt and completion, shifted by one; `values` belong to the completion's tokens."""
    tokens = np.concatenate([prompt, tokens_T])
    before = np.zeros(len(prompt) - 1)
    shifted = {
        name: np.concatenate([before, value]).astype(np.float32) for name, value in values.items()
    }
    arrays = {"target_tokens": tokens[1:], **shifted}
    return tinker.Datum(
        model_input=tinker.ModelInput.from_ints(tokens[:-1].tolist()),
        loss_fn_inputs={
            name: tinker.TensorData.from_numpy(array) for name, array in arrays.items()
        },
    )
