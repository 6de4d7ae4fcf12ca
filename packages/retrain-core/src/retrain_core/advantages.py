"""Episode advantages: each completion compared with the others of its group.

Every function takes the rewards of one prompt's group, shape [G], and returns one advantage for
each, shape [G]. A function of the same form can be used as a plugin (see `Algorithm`).
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from retrain_core.arrays import Floats, as_floats

AdvantageFunction: TypeAlias = Callable[..., Floats]


def _centred(rewards_G: npt.ArrayLike) -> tuple[Floats, float]:
    array = as_floats(rewards_G, "rewards")
    mean = float(array.mean()) if array.size else 0.0
    return array - mean, mean


def grpo(rewards: npt.ArrayLike) -> Floats:
    """Centre one group's rewards.

        A_i = r_i - mean(r)

    Args:
      rewards: reward of each completion of one prompt, shape [G].

    Returns:
      Advantages, shape [G]: empty for an empty group, zeros when all rewards are equal.

    Source: GRPO without the division by the standard deviation, which favours very easy and very
    hard prompts (Dr. GRPO, arXiv 2503.20783).
    """
    return _centred(rewards)[0]


def grpo_std(rewards: npt.ArrayLike) -> Floats:
    """Centre one group's rewards and divide by their standard deviation.

        A_i = (r_i - mean(r)) / (std(r) + 1e-4)

    Args:
      rewards: reward of each completion of one prompt, shape [G].

    Returns:
      Advantages, shape [G], with the population standard deviation: empty for an empty group,
      zeros when all rewards are equal.

    Source: GRPO, arXiv 2402.03300, section 4.1.
    """
    centred_G = _centred(rewards)[0]
    std = float(np.sqrt(np.mean(centred_G**2))) if centred_G.size else 0.0
    return centred_G / (std + 1e-4)


def rloo(rewards: npt.ArrayLike) -> Floats:
    """Compare each reward with the mean of the others.

        A_i = r_i - sum_{j != i} r_j / (G - 1) = G / (G - 1) * (r_i - mean(r))

    Args:
      rewards: reward of each completion of one prompt, shape [G].

    Returns:
      Advantages, shape [G]: 0 for a group of one.

    Source: REINFORCE leave-one-out, arXiv 2402.14740.
    """
    centred_G = _centred(rewards)[0]
    return centred_G * (centred_G.size / max(centred_G.size - 1, 1))


def reinforce_pp(rewards: npt.ArrayLike) -> Floats:
    """Centre one group's rewards; `Algorithm` then normalises over the whole batch.

    The advantages are those of `grpo`. REINFORCE++-Baseline adds the `batch_advantage_norm`, which
    is on by default for this mode.

    Args:
      rewards: reward of each completion of one prompt, shape [G].

    Returns:
      Advantages before the normalisation, shape [G].

    Source: REINFORCE++-Baseline, arXiv 2501.03262.
    """
    return grpo(rewards)


def maxrl(rewards: npt.ArrayLike, eps: float = 1e-6) -> Floats:
    """Centre one group's rewards and divide by their mean.

        A_i = (r_i - mean(r)) / (mean(r) + eps)

    A group whose mean is at most eps gets zeros. For binary rewards with k right answers, each
    right one gets about (G - k) / k and each wrong one about -1; the theory is for binary rewards.

    Args:
      rewards: reward of each completion of one prompt, >= 0, shape [G].
      eps: guards the division.

    Returns:
      Advantages, shape [G].

    Source: maximum-likelihood RL, arXiv 2602.02710.
    """
    centred_G, mean = _centred(rewards)
    if mean <= eps:
        return np.zeros_like(centred_G)
    return centred_G / (mean + eps)
