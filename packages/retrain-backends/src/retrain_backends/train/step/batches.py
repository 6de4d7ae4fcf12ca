"""The batch that the learning rule sees, and the batch that is trained on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from retrain_backends.errors import RunError
from retrain_backends.train.step.samples import Judged
from retrain_backends.types import Completion, Floats, Tokens, TrainBatch
from retrain_core import CompletionBatch, offsets_from_lengths


def completion_batch(judged: Judged) -> CompletionBatch:
    """The completions that have a verdict, by group; empty groups are left out.

    Raises:
      RunError: the engine returned a log-prob or an entropy that is not finite.
    """
    samples, scored_n = judged.samples, judged.scored_n
    scored_t = judged.tokens_of(scored_n)
    sizes_g = np.bincount(samples.group_n[scored_n], minlength=len(samples.prompts))
    entropy_t = samples.entropy_t
    # A border: values from an engine are checked here.
    try:
        return CompletionBatch(
            rewards=judged.rewards_n[scored_n],
            group_offsets=offsets_from_lengths(sizes_g[sizes_g > 0]),
            token_offsets=offsets_from_lengths(samples.lengths_n[scored_n]),
            logprobs=samples.logprobs_t[scored_t],
            entropy=None if entropy_t is None else entropy_t[scored_t],
            planning=samples.planning_t[scored_t],
            trainable=samples.trainable_t[scored_t],
        )
    except ValueError as error:
        raise RunError(
            f"the sampled completions cannot be trained on: {error}; if the policy has diverged, "
            "resume from an earlier checkpoint with a lower training.lr"
        ) from error


@dataclass(frozen=True)
class BatchOrigin:
    """Where a training batch comes from."""

    temperature: float
    step: int
    seed: int


def train_batch(
    judged: Judged, values_t: Floats, kept_groups: npt.NDArray[np.int64], origin: BatchOrigin
) -> TrainBatch:
    """The completions of the informative groups, with their token advantages.

    Args:
      judged: all completions of the step.
      values_t: advantages of the tokens of `completion_batch(judged)`.
      kept_groups: indices of the prompts whose groups are trained.
      origin: temperature, step and seed.

    Returns:
      The batch, which may be empty.
    """
    samples = judged.samples
    advantages_t = np.zeros(len(samples.tokens_t))
    advantages_t[judged.tokens_of(judged.scored_n)] = values_t
    kept_n = judged.scored_n & np.isin(samples.group_n, kept_groups)
    kept_t = judged.tokens_of(kept_n)
    sizes_g = np.bincount(samples.group_n[kept_n], minlength=len(samples.prompts))
    return TrainBatch(
        prompts=[samples.prompts[group].tokens for group in kept_groups],
        group_offsets_g=offsets_from_lengths(sizes_g[kept_groups]),
        token_offsets_n=offsets_from_lengths(samples.lengths_n[kept_n]),
        tokens_t=samples.tokens_t[kept_t],
        logprobs_t=samples.logprobs_t[kept_t],
        advantages_t=advantages_t[kept_t],
        trained_t=samples.trainable_t[kept_t],
        temperature=origin.temperature,
        step=origin.step,
        seed=origin.seed,
    )


def batch_of(
    prompts: Sequence[Tokens],
    groups: Sequence[Sequence[Completion]],
    advantages: Sequence[float],
    origin: BatchOrigin,
) -> TrainBatch:
    """A batch of all completions, for trying out a trainer.

    Args:
      prompts: of the groups.
      groups: completions of each prompt.
      advantages: of the completions, repeated in turn.
      origin: temperature, step and seed.
    """
    rows = [row for group in groups for row in group]
    lengths_n = np.array([len(row.tokens_T) for row in rows])
    advantages_n = np.resize(np.asarray(advantages, np.float64), len(rows))
    return TrainBatch(
        prompts=prompts,
        group_offsets_g=offsets_from_lengths(np.array([len(group) for group in groups])),
        token_offsets_n=offsets_from_lengths(lengths_n),
        tokens_t=np.concatenate([row.tokens_T for row in rows]),
        logprobs_t=np.concatenate([row.logprobs_T for row in rows]),
        advantages_t=np.repeat(advantages_n, lengths_n),
        trained_t=np.ones(int(lengths_n.sum()), np.bool_),
        temperature=origin.temperature,
        step=origin.step,
        seed=origin.seed,
    )
