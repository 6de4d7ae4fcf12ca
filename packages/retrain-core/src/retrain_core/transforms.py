"""Token transforms: from one advantage per completion to one per token.

Every function works on one completion or, given their `offsets` (shape [n + 1]), on many in flat
arrays; see `retrain_core.segments`. Uncertainties above 50 count as 50.
"""

from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from retrain_core.arrays import Floats, as_floats, as_mask, check_size
from retrain_core.entropy import UNCERTAINTY_CAP
from retrain_core.segments import (
    chunks,
    segment_mean,
    segment_offsets,
    segment_sum,
    spread,
)

# If the mean uncertainty of a completion is below this, its tokens all get the same weight.
_MEAN_FLOOR: Final = 1e-7


def gtpo(
    advantage: npt.ArrayLike,
    uncertainty: npt.ArrayLike,
    beta: float = 0.1,
    offsets: npt.ArrayLike | None = None,
    out: Floats | None = None,
) -> Floats:
    """Weigh a completion's advantage by each token's uncertainty.

        w_t = max(0, 1 + beta (h_t / (mu + 1e-8) - 1)),    A_t = A w_t

    `mu` is the mean of `h` over the completion, so the weights average 1 unless one is floored.
    With `beta = 0` or `mu < 1e-7` every token gets `A`.

    Args:
      advantage: advantage of the completion, or of each completion, shape [n].
      uncertainty: `h` of every token, shape [t].
      beta: strength; a negative value favours tokens of low uncertainty.
      offsets: boundaries of the completions, shape [n + 1]; None: a single completion.
      out: where to write, shape [t]; may be `uncertainty` itself. None: a new array.

    Returns:
      Token advantages, shape [t].

    Source: the entropy weighting of GTPO, arXiv 2508.04349, in a simpler form: the paper compares
    policy entropy across the right answers at the same position, and penalises confident mistakes
    more; here the tokens of a completion are compared with each other, in right and wrong answers
    alike.
    """
    h_t = as_floats(uncertainty, "uncertainty")
    bounds = segment_offsets(offsets, h_t.size)
    advantage_n = as_floats(np.atleast_1d(np.asarray(advantage)), "advantage")
    check_size(advantage_n, bounds.size - 1, "advantage", "completions")

    weighed_t = np.empty_like(h_t) if out is None else out
    for chunk in chunks(bounds):
        chunk_t = np.minimum(h_t[chunk.entries], UNCERTAINTY_CAP, out=weighed_t[chunk.entries])
        mu_n = segment_mean(chunk_t, chunk.offsets)
        even_n = mu_n < _MEAN_FLOOR
        # w = slope * h + level, with slope 0 and level 1 where all tokens get the same weight.
        slope_n = np.where(even_n, 0.0, beta / (np.where(even_n, 1.0, mu_n) + 1e-8))
        chunk_t *= spread(slope_n, chunk.offsets)
        if even_n.any():
            chunk_t += spread(np.where(even_n, 1.0, 1.0 - beta), chunk.offsets)
        else:
            chunk_t += 1.0 - beta
        np.maximum(chunk_t, 0.0, out=chunk_t)
        chunk_t *= spread(advantage_n[chunk.segments], chunk.offsets)
    return weighed_t


def hicra(advantages: npt.ArrayLike, planning: npt.ArrayLike, alpha: float = 0.2) -> Floats:
    """Raise the advantage of planning tokens.

        A'_t = A_t + alpha |A_t| m_t

    Positive advantages of planning tokens grow and negative ones shrink; execution tokens do not
    change.

    Args:
      advantages: token advantages, shape [t].
      planning: True for planning tokens, shape [t].
      alpha: strength.

    Returns:
      Token advantages, shape [t].

    Source: HICRA, arXiv 2509.03646.
    """
    advantages_t = as_floats(advantages, "advantages")
    planning_t = as_mask(planning, advantages_t.size, "planning")
    raised_t = np.abs(advantages_t)
    raised_t *= alpha
    raised_t *= planning_t
    raised_t += advantages_t
    return raised_t


def _stretch(
    uncertainty: npt.ArrayLike,
    planning: npt.ArrayLike,
    factor: float,
    offsets: npt.ArrayLike | None,
    out: Floats | None,
) -> Floats:
    """Scale execution tokens about their completion's execution mean: `mu + factor (h - mu)`."""
    h_t = as_floats(uncertainty, "uncertainty")
    planning_t = as_mask(planning, h_t.size, "planning")
    stretched_t = np.empty_like(h_t) if out is None else out
    for chunk in chunks(segment_offsets(offsets, h_t.size)):
        chunk_t = np.minimum(h_t[chunk.entries], UNCERTAINTY_CAP, out=stretched_t[chunk.entries])
        if factor == 1.0:
            continue
        planning_at = np.flatnonzero(planning_t[chunk.entries])
        kept = chunk_t[planning_at]
        chunk_t[planning_at] = 0.0
        exec_count_n = np.diff(chunk.offsets) - np.diff(np.searchsorted(planning_at, chunk.offsets))
        mu_n = segment_sum(chunk_t, chunk.offsets) / np.maximum(exec_count_n, 1)
        chunk_t *= factor
        chunk_t += spread((1.0 - factor) * mu_n, chunk.offsets)
        chunk_t[planning_at] = kept
    return stretched_t


def _unit(lam: float) -> float:
    return min(max(lam, 0.0), 1.0)


def sepa_pool(
    uncertainty: npt.ArrayLike,
    planning: npt.ArrayLike,
    lam: float,
    offsets: npt.ArrayLike | None = None,
    out: Floats | None = None,
) -> Floats:
    """Pull the uncertainty of execution tokens to their mean.

        h'_t = lambda mu_x + (1 - lambda) h_t    for execution tokens, h_t for planning tokens

    `mu_x` is the mean over the completion's execution tokens, which does not change. With
    `lambda = 0`, or without execution tokens, the result is `h`.

    Args:
      uncertainty: `h` of every token, shape [t].
      planning: True for planning tokens, shape [t].
      lam: strength, clipped to [0, 1].
      offsets: boundaries of the completions, shape [n + 1]; None: a single completion.
      out: where to write, shape [t]; may be `uncertainty` itself. None: a new array.

    Returns:
      Uncertainties, shape [t].
    """
    return _stretch(uncertainty, planning, 1.0 - _unit(lam), offsets, out)


def sepa_amp(
    uncertainty: npt.ArrayLike,
    planning: npt.ArrayLike,
    lam: float,
    offsets: npt.ArrayLike | None = None,
    out: Floats | None = None,
) -> Floats:
    """Push the uncertainty of execution tokens away from their mean; it may become negative.

        h'_t = (1 + lambda) h_t - lambda mu_x    for execution tokens, h_t for planning tokens

    The opposite of `sepa_pool`, with the same arguments and edge cases.
    """
    return _stretch(uncertainty, planning, 1.0 + _unit(lam), offsets, out)


def sepa_amp_clamped(
    uncertainty: npt.ArrayLike,
    planning: npt.ArrayLike,
    lam: float,
    offsets: npt.ArrayLike | None = None,
    out: Floats | None = None,
) -> Floats:
    """`sepa_amp`, floored at 0. Arguments as for `sepa_pool`."""
    amplified_t = sepa_amp(uncertainty, planning, lam, offsets, out)
    return np.maximum(amplified_t, 0.0, out=amplified_t)


def entropy_threshold(uncertainty: npt.ArrayLike, rho: float) -> float:
    """Smallest uncertainty of the top share `rho` of a group's tokens.

    Of all `n` values in descending order, element `max(1, floor(n rho))`.

    Args:
      uncertainty: `h` of every token of one group, shape [t].
      rho: share of tokens to keep; `rho >= 1` gives the smallest value, `rho <= 0` -inf (off).

    Returns:
      The threshold; -inf without tokens.
    """
    h_t = as_floats(uncertainty, "uncertainty")
    if rho <= 0.0 or h_t.size == 0:
        return -np.inf
    kept = min(max(1, int(h_t.size * rho)), h_t.size)
    return float(np.partition(h_t, h_t.size - kept)[h_t.size - kept])


def entropy_mask(
    advantages: npt.ArrayLike,
    uncertainty: npt.ArrayLike,
    rho: float = 0.2,
    offsets: npt.ArrayLike | None = None,
) -> Floats:
    """Keep the advantage of the most uncertain tokens of a group and give the others 0.

    A token is kept if its `h` is at least the `entropy_threshold` of its group, so tokens tied at
    the threshold are all kept.

    Args:
      advantages: token advantages, shape [t].
      uncertainty: `h` of every token, shape [t].
      rho: share of tokens to keep; `rho >= 1` keeps all and `rho <= 0` is off.
      offsets: boundaries of the groups' tokens, shape [g + 1]; None: a single group.

    Returns:
      Token advantages, shape [t].

    Source: training on the high-entropy minority of tokens, arXiv 2506.01939.
    """
    advantages_t = as_floats(advantages, "advantages")
    h_t = as_floats(uncertainty, "uncertainty")
    check_size(h_t, advantages_t.size, "uncertainty", "tokens")
    bounds = segment_offsets(offsets, h_t.size)
    # numpy cannot select the k-th value of each segment, so this loops over the groups.
    thresholds = [
        entropy_threshold(h_t[start:end], rho) for start, end in pairwise(bounds.tolist())
    ]
    return np.where(h_t >= spread(np.asarray(thresholds), bounds), advantages_t, 0.0)
