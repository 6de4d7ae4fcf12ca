"""What a number of seeds can show, and how many seeds show a difference.

Effects and margins are in standard deviations of the paired difference between two conditions,
over seeds.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from scipy import optimize, special, stats

from retrain_backends.types import Floats
from retrain_campaign.statistics.families import against_first, max_t_critical

POWER = 0.8
MOST_SEEDS = 1000
SPREAD_CONFIDENCE = 0.8
_LARGEST = 1e4  # standard deviations: beyond any difference
_SPREADS = 1000  # points of the integral over the estimated spread


@dataclass(frozen=True)
class Design:
    """What decides how much a comparison can show, apart from the spread between seeds.

    Args:
      seeds: number of seeds of each condition, >= 2.
      contrasts: number of declared contrasts.
      pooled: whether one spread is estimated from all conditions, all against one control.
      alpha: family-wise error rate, two-sided.
    """

    seeds: int
    contrasts: int = 1
    pooled: bool = False
    alpha: float = 0.05

    def __post_init__(self) -> None:
        if self.seeds < 2 or self.contrasts < 1:
            raise ValueError(f"needs 2 seeds and 1 contrast, not {self.seeds} and {self.contrasts}")

    @property
    def df(self) -> int:
        """Degrees of freedom of the standard error."""
        return (self.seeds - 1) * (self.contrasts if self.pooled else 1)

    @property
    def critical(self) -> float:
        """The t value beyond which a contrast is better or worse, before any other is."""
        if self.pooled:
            return max_t_critical(self.alpha, against_first(self.contrasts), self.df)
        return float(stats.t.ppf(1 - self.alpha / (2 * self.contrasts), self.df))

    @property
    def equivalence_critical(self) -> float:
        """The t value of the two one-sided tests, before any other contrast is equivalent."""
        return float(stats.t.ppf(1 - self.alpha / self.contrasts, self.df))


@dataclass(frozen=True)
class SeedsNeeded:
    """How many seeds in all are enough, as a range, since the spread is itself an estimate.

    Args:
      low: with the spread as estimated.
      high: with its upper limit of confidence 80 %. None stands for more than 1,000.
    """

    low: int | None
    high: int | None


def power(effect: float, design: Design) -> float:
    """Probability that a true difference is found: the noncentral t distribution.

        P = E over s of Phi(sqrt(S) effect - t s) + Phi(-sqrt(S) effect - t s)

    t is `critical`, and df s^2 ~ chi^2(df). The mean is over quantiles of s: `scipy.stats.nct` has
    no value where the effect is large.
    """
    shift = np.sqrt(design.seeds) * effect
    threshold = design.critical * _spread_quantiles(design.df)
    return float((special.ndtr(shift - threshold) + special.ndtr(-shift - threshold)).mean())


@cache
def detectable_effect(design: Design, wanted: float = POWER) -> float:
    """The difference that is found with probability `wanted`."""
    return _smallest(lambda effect: power(effect, design), wanted)


def equivalence_power(margin: float, design: Design) -> float:
    """Probability that equivalence within the margin is shown if there is no difference.

        P = E over s of max(0, 2 Phi(sqrt(S) margin - t s) - 1)

    t is `equivalence_critical`, and df s^2 ~ chi^2(df).
    """
    spreads = _spread_quantiles(design.df)
    reach = np.sqrt(design.seeds) * margin - design.equivalence_critical * spreads
    return float(np.maximum(2 * special.ndtr(reach) - 1, 0).mean())


@cache
def provable_margin(design: Design, wanted: float = POWER) -> float:
    """The margin within which equivalence is shown with probability `wanted`, if it is true."""
    return _smallest(lambda margin: equivalence_power(margin, design), wanted)


def upper_spread(sd: float, df: float, confidence: float = SPREAD_CONFIDENCE) -> float:
    """The one-sided upper limit of a standard deviation: sd sqrt(df / chi^2(1 - confidence, df)).

    The standard deviation of few seeds is too small more often than not (arXiv 1806.08295).
    """
    return float(sd * np.sqrt(df / stats.chi2.ppf(1 - confidence, df)))


def seeds_for_effect(effect: float, sd: float, pilot: Design) -> SeedsNeeded:
    """Seeds that find a true difference with probability 80 %.

    Args:
      effect: the difference, in the unit of `sd`, not 0.
      sd: standard deviation of the paired difference, estimated in the pilot, > 0.
      pilot: the comparison that was made; its number of seeds is replaced.
    """
    return _needed(power, abs(effect), sd, pilot)


def seeds_for_margin(margin: float, sd: float, pilot: Design) -> SeedsNeeded:
    """Seeds that show equivalence within the margin with probability 80 %, without difference."""
    return _needed(equivalence_power, margin, sd, pilot)


def _needed(
    probability: Callable[[float, Design], float], difference: float, sd: float, pilot: Design
) -> SeedsNeeded:
    def fewest(spread: float) -> int | None:
        def enough(seeds: int) -> bool:
            return probability(difference / spread, replace(pilot, seeds=seeds)) >= POWER

        return _first(enough, 2, MOST_SEEDS)

    return SeedsNeeded(fewest(sd), fewest(upper_spread(sd, pilot.df)))


def _first(holds: Callable[[int], bool], low: int, high: int) -> int | None:
    """The smallest number from low to high for which a monotone condition holds."""
    if not holds(high):
        return None
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low


def _smallest(probability: Callable[[float], float], wanted: float) -> float:
    upper = 1.0
    while probability(upper) < wanted and upper < _LARGEST:
        upper *= 2
    found = optimize.root_scalar(lambda value: probability(value) - wanted, bracket=(0, upper))
    return float(found.root)


@cache
def _spread_quantiles(df: int) -> Floats:
    shares = (np.arange(_SPREADS) + 0.5) / _SPREADS
    return np.sqrt(stats.chi2.ppf(shares, df) / df)
