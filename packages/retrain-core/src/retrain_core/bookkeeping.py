"""Statistics of the rewards of a step: rates, uniform groups, ties."""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from retrain_core.arrays import Floats, Mask, Offsets, as_floats, as_mask, as_offsets, check_size
from retrain_core.segments import offsets_from_lengths

# A completion with a reward above this is correct.
CORRECT_ABOVE: Final = 0.5
# Rewards that differ by at most this are equal.
REWARD_EPS: Final = 1e-6


def _group_range(rewards_n: Floats, offsets: Offsets) -> tuple[Floats, Floats]:
    """Least and largest reward of each group, shape [g]; 0 and 0 for an empty group."""
    least_g, most_g = np.zeros(offsets.size - 1), np.zeros(offsets.size - 1)
    filled_g = np.diff(offsets) > 0
    if filled_g.any():
        starts = offsets[:-1][filled_g]
        least_g[filled_g] = np.minimum.reduceat(rewards_n, starts)
        most_g[filled_g] = np.maximum.reduceat(rewards_n, starts)
    return least_g, most_g


def informative_groups(
    rewards: npt.ArrayLike, group_offsets: npt.ArrayLike, eps: float = REWARD_EPS
) -> Mask:
    """Which groups have rewards that differ: `max r - min r > eps`.

    Args:
      rewards: one per completion, shape [n].
      group_offsets: boundaries of the groups, shape [g + 1].
      eps: rewards that differ by at most this are equal.

    Returns:
      Boolean, shape [g]; False for empty groups, groups of one and groups of equal rewards.
    """
    rewards_n = as_floats(rewards, "rewards")
    offsets = as_offsets(group_offsets, rewards_n.size, "group_offsets", "completions")
    least_g, most_g = _group_range(rewards_n, offsets)
    return most_g - least_g > eps


class RewardTies(NamedTuple):
    """How many rewards of one group are equal; a group with fewer than two is not eligible."""

    eligible: bool
    has_tie: bool
    is_uniform: bool
    unique_count: int
    tied_pairs: int
    total_pairs: int


def reward_ties(rewards: npt.ArrayLike, eps: float = REWARD_EPS) -> RewardTies:
    """Count the ties of one group.

    A pair is tied if its rewards differ by at most eps. In the count of distinct values, sorted
    rewards whose neighbours differ by at most eps are one value.

    Args:
      rewards: of each completion of one prompt, shape [G].
      eps: rewards that differ by at most this are equal.

    Returns:
      The counts; `is_uniform` is False for a group with fewer than two rewards.
    """
    sorted_G = np.sort(as_floats(rewards, "rewards"))
    size = sorted_G.size
    within_G = np.searchsorted(sorted_G, sorted_G + eps, side="right")
    tied_pairs = int(np.sum(within_G - np.arange(1, size + 1)))
    eligible = size >= 2
    return RewardTies(
        eligible=eligible,
        has_tie=tied_pairs > 0,
        is_uniform=eligible and bool(sorted_G[-1] - sorted_G[0] <= eps),
        unique_count=int(size > 0) + int(np.sum(np.diff(sorted_G) > eps)),
        tied_pairs=tied_pairs,
        total_pairs=size * (size - 1) // 2,
    )


class RunningCount(NamedTuple):
    """Correct and scored completions since step 0; part of a checkpoint."""

    correct: int = 0
    scored: int = 0


class StepBookkeeping(NamedTuple):
    """The counts and rates of one step; a rate over an empty set is 0.

    `kept_groups` are the indices of informative groups. Every other group with a scored completion
    is uniform: `all_correct` (every reward > 0.5), `all_wrong` (no reward > 0), or `tied` (the
    same partial credit). `no_verdict` counts completions without a reward. Empty groups are not
    counted.
    """

    mean_reward: float
    correct_count: int
    scored_count: int
    no_verdict: int
    correct_rate: float
    running_correct_rate: float
    max_token_hit_rate: float
    kept_groups: npt.NDArray[np.int64]
    uniform_group_rate: float
    all_correct: int
    all_wrong: int
    tied: int
    running: RunningCount


def step_bookkeeping(
    rewards: npt.ArrayLike,
    group_offsets: npt.ArrayLike,
    lengths: npt.ArrayLike,
    max_tokens: int,
    scored: npt.ArrayLike | None = None,
    running: RunningCount = RunningCount(),  # noqa: B008 - a tuple cannot change
) -> StepBookkeeping:
    """Compute the statistics of a step over all completions, including those of uniform groups.

    Args:
      rewards: one per completion, shape [n].
      group_offsets: boundaries of the groups, shape [g + 1].
      lengths: tokens of each completion, shape [n].
      max_tokens: a completion of at least this many tokens hit the limit.
      scored: False where there is no verdict, shape [n]; the reward there is ignored. None: all
        were scored.
      running: the counts before this step.

    Returns:
      Rates and counts of the step, and the running counts after it. `correct_rate` is of scored
      completions, `max_token_hit_rate` of all, `uniform_group_rate` is the share of uniform groups
      among those that have a completion.
    """
    rewards_n = as_floats(rewards, "rewards")
    offsets = as_offsets(group_offsets, rewards_n.size, "group_offsets", "completions")
    lengths_n = np.asarray(lengths, dtype=np.int64)
    check_size(lengths_n, rewards_n.size, "lengths", "completions")
    scored_n = np.ones(rewards_n.size, dtype=np.bool_)
    if scored is not None:
        scored_n = as_mask(scored, rewards_n.size, "scored", "completions")
    judged_n = rewards_n[scored_n]
    correct = int(np.sum(judged_n > CORRECT_ABOVE))
    total = RunningCount(running.correct + correct, running.scored + judged_n.size)
    # Boundaries among the scored completions: how many before each boundary were scored.
    judged_offsets = offsets_from_lengths(scored_n)[offsets]
    least_g, most_g = _group_range(judged_n, judged_offsets)
    kept_g = most_g - least_g > REWARD_EPS
    uniform_g = ~kept_g & (np.diff(judged_offsets) > 0)
    all_correct = int(np.sum(uniform_g & (least_g > CORRECT_ABOVE)))
    all_wrong = int(np.sum(uniform_g & (most_g <= REWARD_EPS)))
    return StepBookkeeping(
        mean_reward=float(judged_n.mean()) if judged_n.size else 0.0,
        correct_count=correct,
        scored_count=judged_n.size,
        no_verdict=rewards_n.size - judged_n.size,
        correct_rate=_share(correct, judged_n.size),
        running_correct_rate=_share(total.correct, total.scored),
        max_token_hit_rate=_share(int(np.sum(lengths_n >= max_tokens)), lengths_n.size),
        kept_groups=np.flatnonzero(kept_g),
        uniform_group_rate=_share(int(np.sum(uniform_g)), int(np.sum(np.diff(offsets) > 0))),
        all_correct=all_correct,
        all_wrong=all_wrong,
        tied=int(np.sum(uniform_g)) - all_correct - all_wrong,
        running=total,
    )


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
