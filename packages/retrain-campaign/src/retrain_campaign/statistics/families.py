"""Error rates over a family of contrasts: Holm's method, and Dunnett's test in blocks of seeds.

Shapes: C contrasts, K conditions, S seeds; leading axes, written `...`, are repetitions.
"""

from collections.abc import Sequence
from functools import cache
from typing import TypeAlias

import numpy as np
from scipy import optimize, stats

from retrain_backends.types import Floats
from retrain_campaign.statistics.estimates import Estimate

Pairs: TypeAlias = tuple[tuple[int, int], ...]
"""For each contrast, the indices of treatment and control among the conditions."""

_POINTS = 2**14  # of the integral over the means of conditions; its error is below 1e-4
_SEED = 20261122


def holm(p_values: Floats) -> Floats:
    """The p values adjusted by Holm's method, for any dependence between the contrasts.

        p'_(i) = max over j <= i of min(1, (C - j + 1) p_(j)),    p_(1) <= ... <= p_(C)

    Args:
      p_values: shape [..., C].

    Returns:
      Adjusted p values, shape [..., C]; at most alpha where the contrast is rejected.

    Source: Holm (1979).
    """
    order = np.argsort(p_values, axis=-1, kind="stable")
    factors = np.arange(p_values.shape[-1], 0, -1)
    scaled = np.minimum(np.take_along_axis(p_values, order, axis=-1) * factors, 1)
    adjusted = np.empty_like(scaled)
    np.put_along_axis(adjusted, order, np.maximum.accumulate(scaled, axis=-1), axis=-1)
    return adjusted


def pooled_t(values: Floats, contrasts: Pairs) -> Estimate:
    """Differences of conditions with one spread for all: analysis of variance in blocks of seeds.

        se^2 = 2 MS_e / S        df = (S - 1)(K - 1)

    MS_e is the mean square of what remains after the means of conditions and of seeds. This assumes
    that all conditions scatter equally; use it with `max_t_p_value` or `max_t_critical`.

    Args:
      values: metric of each run, shape [..., K, S], K and S >= 2.
      contrasts: the C contrasts.

    Returns:
      Estimates of shape [..., C].
    """
    conditions, seeds = values.shape[-2:]
    if conditions < 2 or seeds < 2:
        raise ValueError(f"needs 2 conditions and 2 seeds, not {conditions} and {seeds}")
    means = values.mean(axis=-1)
    remainder = values - means[..., None] - values.mean(axis=-2, keepdims=True)
    remainder += values.mean(axis=(-1, -2), keepdims=True)
    df = (seeds - 1) * (conditions - 1)
    variance = np.square(remainder).sum(axis=(-1, -2)) / df
    variance = np.where(variance > 1e-24 * np.square(values).max(axis=(-1, -2)), variance, 0)
    treatments, controls = (list(side) for side in zip(*contrasts, strict=True))
    difference = means[..., treatments] - means[..., controls]
    se = np.broadcast_to(np.sqrt(2 * variance / seeds)[..., None], difference.shape)
    return Estimate(difference, se, np.full_like(difference, df))


def max_t_p_value(t_values: Floats, contrasts: Pairs, df: int) -> Floats:
    """The p values of `pooled_t`, adjusted for the largest of all contrasts (single step).

        p' = P(max_c |T_c| >= |t|)

    T is multivariate t, of the differences of independent means. With all contrasts against one
    control it is Dunnett's test, with all pairs Tukey's. The integral over the means is by
    quasi-Monte Carlo, that over the spread in closed form; the same arguments give the same result.

    Args:
      t_values: shape [...].
      contrasts: the family.
      df: degrees of freedom of the spread.

    Source: Dunnett (1955).
    """
    largest = _largest_difference(contrasts)
    ratios = largest / np.maximum(np.abs(t_values), 1e-12)[..., None]
    return np.minimum(stats.chi2.cdf(df * ratios**2, df).mean(axis=-1), 1)


@cache
def max_t_critical(alpha: float, contrasts: Pairs, df: int) -> float:
    """The t value that the largest of all contrasts exceeds with probability alpha."""

    def excess(critical: float) -> float:
        return float(max_t_p_value(np.array(critical), contrasts, df)) - alpha

    upper = float(stats.t.ppf(1 - alpha / (2 * len(contrasts)), df))  # Bonferroni
    found = optimize.root_scalar(excess, bracket=(0.5 * upper, 1.01 * upper))
    return float(found.root)


def against_first(contrasts: int) -> Pairs:
    """So many conditions against one control, which has index 0."""
    return tuple((index + 1, 0) for index in range(contrasts))


@cache
def _largest_difference(contrasts: Sequence[tuple[int, int]]) -> Floats:
    """max_c |z_i - z_j| / sqrt(2) at the points of the integral, shape [points]."""
    conditions = 1 + max(max(pair) for pair in contrasts)
    engine = stats.qmc.MultivariateNormalQMC(np.zeros(conditions), rng=_SEED)
    means = engine.random(_POINTS)
    treatments, controls = (list(side) for side in zip(*contrasts, strict=True))
    return np.abs(means[:, treatments] - means[:, controls]).max(axis=-1) / np.sqrt(2)
