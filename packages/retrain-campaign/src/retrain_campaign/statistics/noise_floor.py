"""The differences between equal conditions: the control run twice, as pairs A/A."""

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import stats

from retrain_backends.types import Floats
from retrain_campaign.statistics.estimates import paired_t
from retrain_campaign.statistics.power import upper_spread

_MOST_FLIPPED = 16


@dataclass(frozen=True)
class NoiseFloor:
    """How much two equal conditions differ.

    Args:
      pairs: number of pairs A/A.
      sd: standard deviation of the difference of a pair, about 0: its mean is known.
      sd_high: its upper limit of confidence 80 %.
      band: a mean difference over the seeds of a contrast is within -+ band with probability
        1 - alpha if the conditions are equal.
      false_alarms: share of the sign patterns of these pairs for which `paired_t` finds a
        difference, which should be about alpha; None with fewer than 5 or more than 16 pairs.
    """

    pairs: int
    sd: float
    sd_high: float
    band: float
    false_alarms: float | None


def noise_floor(differences: Floats, seeds: int, alpha: float = 0.05) -> NoiseFloor:
    """Measure the noise floor.

        sd = sqrt(mean d^2)        band = t(1 - alpha/2, pairs) sd / sqrt(seeds)

    The two runs of a pair can be exchanged, so every pattern of signs is equally likely.

    Args:
      differences: of each pair, shape [pairs], at least one.
      seeds: number of seeds of the contrasts that the band is for.
      alpha: of the band and of the test.
    """
    pairs = len(differences)
    if not pairs or seeds < 1:
        raise ValueError(f"needs a pair and a seed, not {pairs} and {seeds}")
    sd = float(np.sqrt(np.mean(np.square(differences))))
    return NoiseFloor(
        pairs=pairs,
        sd=sd,
        sd_high=upper_spread(sd, pairs),
        band=float(stats.t.ppf(1 - alpha / 2, pairs) * sd / np.sqrt(seeds)),
        false_alarms=_false_alarms(differences, alpha) if 5 <= pairs <= _MOST_FLIPPED else None,
    )


def _false_alarms(differences: Floats, alpha: float) -> float:
    signs = np.array(list(product((1.0, -1.0), repeat=len(differences) - 1)))
    flipped = np.concatenate([signs * differences[1:], np.full((len(signs), 1), differences[0])], 1)
    return float((paired_t(flipped).p_value() <= alpha).mean())
