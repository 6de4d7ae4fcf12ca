"""What the runs that failed could have changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from retrain_backends.types import Floats
from retrain_campaign.statistics.estimates import paired_t

_MOST_SEEDS = 12  # of those missing: all combinations of their bounds are tried


@dataclass(frozen=True)
class WorstCase:
    """The range of results over all outcomes that the missing seeds could have had.

    Args:
      mean: range of the mean difference.
      interval: the lowest lower and the highest upper limit; infinite with more than 12 missing
        seeds.
    """

    mean: tuple[float, float]
    interval: tuple[float, float]


def worst_case(
    differences: Floats, missing: Sequence[tuple[float, float]], alpha: float
) -> WorstCase:
    """Evaluate a contrast with every missing difference at each of its bounds.

    The limits of the interval of `paired_t` are concave and convex in each difference, so that
    their extremes are at the bounds.

    Args:
      differences: of the seeds that have one, shape [S].
      missing: bounds of the difference of each missing seed.
      alpha: of the interval.
    """
    bounds = np.array(missing, dtype=float).reshape(-1, 2)
    seeds = len(differences) + len(bounds)
    low, high = (float(differences.sum() + side.sum()) / seeds for side in bounds.T)
    if len(bounds) > _MOST_SEEDS or seeds < 2:
        return WorstCase((low, high), (-np.inf, np.inf))
    corners = np.array(list(product(*bounds)))
    known = np.broadcast_to(differences, (len(corners), len(differences)))
    lower, upper = paired_t(np.concatenate([known, corners], axis=1)).interval(alpha)
    return WorstCase((low, high), (float(lower.min()), float(upper.max())))
