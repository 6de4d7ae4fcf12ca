"""Looks at the outcomes before all seeds are done, without more false alarms.

Shapes: S seeds in the order in which they are looked at; leading axes, written `...`, are
repetitions.
"""

import numpy as np

from retrain_backends.types import Floats, Mask
from retrain_campaign.statistics.estimates import Estimate, paired_t

FUTILITY_LOOKS = (3, 5)
"""Numbers of seeds after which a condition may be stopped for futility."""

FUTILITY_ALPHA = 0.1
_PRIOR_VARIANCE = 2.0  # of the difference in standard deviations, under the alternative


def stops_for_futility(differences: Floats, margin: float) -> Mask:
    """Whether a treatment is stopped now, since it is unlikely to be better by the margin.

    That is so after 3 or 5 seeds if the one-sided upper limit of confidence 90 % is below the
    margin. A stopped contrast is neither better nor worse, so that stopping cannot add a false
    alarm; the other contrasts are tested as if there had been no look.

    Args:
      differences: treatment minus control of the seeds so far, shape [..., S].
      margin: the smallest difference that matters.
    """
    if differences.shape[-1] not in FUTILITY_LOOKS:
        return np.zeros(differences.shape[:-1], bool)
    return paired_t(differences).upper_limit(FUTILITY_ALPHA) < margin


def e_values(differences: Floats) -> Floats:
    """Evidence against no difference after each seed: a martingale of mean 1 if there is none.

        E_n = (1 + n g)^(-1/2) [(1 + t^2/(n-1)) / (1 + t^2/((n-1)(1 + n g)))]^(n/2),    g = 2

    t is that of `paired_t`. E_n is the Bayes factor of the t test with a normal prior of variance g
    on the difference in standard deviations. By Ville's inequality, P(E_n >= 1/alpha for any n) is
    at most alpha, so it may be looked at after every seed. E_1 is 1.

    Args:
      differences: treatment minus control, shape [..., S].

    Returns:
      Shape [..., S].

    Source: Rouder et al. (2009); Gruenwald et al., arXiv 1906.07801.
    """
    found = np.ones_like(differences)
    for count in range(2, differences.shape[-1] + 1):
        squared = paired_t(differences[..., :count]).t_value() ** 2 / (count - 1)
        shrunk = 1 + count * _PRIOR_VARIANCE
        ratio = np.log1p(squared) - np.log1p(squared / shrunk)
        found[..., count - 1] = np.exp(count / 2 * ratio - np.log(shrunk) / 2)
    return found


def anytime_p_value(differences: Floats) -> Floats:
    """1 / the largest e-value so far: a p value that is valid whenever it is looked at."""
    return 1 / e_values(differences).max(axis=-1)


def confidence_sequence(differences: Floats, alpha: float) -> tuple[Floats, Floats]:
    """The differences whose e-value is below 1/alpha: an interval valid after every seed.

        |mean - d| <= se sqrt((n-1)(r - 1) / (1 - r / (1 + n g)))
        r = ((1 + n g)^(1/2) / alpha)^(2/n)

    Unbounded as long as r >= 1 + n g.
    """
    count = differences.shape[-1]
    estimate: Estimate = paired_t(differences)
    shrunk = 1 + count * _PRIOR_VARIANCE
    ratio = (np.sqrt(shrunk) / alpha) ** (2 / count)
    bounded = ratio < shrunk
    critical = np.sqrt((count - 1) * (ratio - 1) / (1 - ratio / shrunk)) if bounded else np.inf
    half = estimate.half_width(critical)
    return estimate.mean - half, estimate.mean + half
