"""Estimates of an evaluation from several samples of each question."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from retrain_core.arrays import (
    Floats,
    as_floats,
    as_mask,
    as_offsets,
    check_rank,
)
from retrain_core.bookkeeping import CORRECT_ABOVE
from retrain_core.segments import offsets_from_lengths, segment_sum


class QuestionOutcomes(NamedTuple):
    """How each question was answered, shape [P] each.

    `correct` and `scored` count completions; `mean_reward` is over the scored ones, NaN if there
    are none.
    """

    correct: npt.NDArray[np.int64]
    scored: npt.NDArray[np.int64]
    mean_reward: Floats


def question_outcomes(
    rewards: npt.ArrayLike, group_offsets: npt.ArrayLike, scored: npt.ArrayLike | None = None
) -> QuestionOutcomes:
    """Count the scored and the correct completions of each question.

    Args:
      rewards: one per completion, shape [n]. Above 0.5 is correct.
      group_offsets: boundaries of the questions' completions, shape [P + 1].
      scored: False where there is no verdict, shape [n]; the reward there is ignored. None: all
        were scored.

    Returns:
      The counts and the mean reward of each question.
    """
    rewards_n = as_floats(rewards, "rewards")
    offsets = as_offsets(group_offsets, rewards_n.size, "group_offsets", "completions")
    scored_n = np.ones(rewards_n.size, dtype=np.bool_)
    if scored is not None:
        scored_n = as_mask(scored, rewards_n.size, "scored", "completions")
    judged_n = np.where(scored_n, rewards_n, 0.0)
    scored_P = np.diff(offsets_from_lengths(scored_n)[offsets])
    right_n = judged_n > CORRECT_ABOVE
    mean_P = np.full(scored_P.size, np.nan)
    total_P = segment_sum(judged_n, offsets)
    np.divide(total_P, scored_P, out=mean_P, where=scored_P > 0)
    return QuestionOutcomes(
        correct=np.diff(offsets_from_lengths(right_n)[offsets]), scored=scored_P, mean_reward=mean_P
    )


def pass_at_k(num_correct: npt.ArrayLike, num_samples: npt.ArrayLike, k: int) -> Floats:
    """Unbiased estimate, for each question, of the probability that one of `k` samples is correct.

        pass@k = 1 - C(n - c, k) / C(n, k) = 1 - prod_{j < k} (n - c - j) / (n - j)

    The product form is computed: each of its factors lies in [0, 1], so large binomial
    coefficients cannot overflow.

    Args:
      num_correct: correct samples `c` of each question, `0 <= c <= n`, shape [P] (or a number for
        all of them).
      num_samples: samples `n` of each question, >= 0, shape [P] (or a number for all of them).
      k: number of samples, >= 1.

    Returns:
      Probabilities in [0, 1], shape [P]; 1 where fewer than `k` samples are wrong, `c / n` for
      `k = 1`, NaN where `n < k`, which has no unbiased estimate.

    Source: Chen et al. 2021, "Evaluating large language models trained on code", arXiv 2107.03374,
    equation 1.
    """
    correct_P, samples_P = np.broadcast_arrays(
        np.atleast_1d(np.asarray(num_correct, dtype=np.float64)),
        np.atleast_1d(np.asarray(num_samples, dtype=np.float64)),
    )
    check_rank(correct_P, 1, "num_correct")
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if not ((correct_P >= 0) & (correct_P <= samples_P)).all():
        raise ValueError("num_correct must be from 0 to num_samples")
    drawn_k = np.arange(k)
    wrong_Pk = np.maximum(0.0, (samples_P - correct_P)[:, None] - drawn_k)
    # Where n < k the result is discarded; 1 avoids a division by zero.
    left_Pk = np.maximum(1.0, samples_P[:, None] - drawn_k)
    passed_P = 1.0 - np.prod(wrong_Pk / left_Pk, axis=1)
    return np.where(samples_P >= k, passed_P, np.nan)
