"""How figures of a run vary, estimated from few runs, and drawn for the runs of a simulation."""

from collections.abc import Mapping, Sequence

import numpy as np

from retrain_backends.types import Floats

REPLICATES = 1000
PRIOR_SHARE = 0.05  # standard deviation between runs, as a share, that is assumed beforehand
PRIOR_RUNS = 4  # as many measured runs as this assumption counts
_SMALLEST = 1e-6  # of a figure, since logarithms are taken


class BetweenRuns:
    """A positive figure of runs, such as the seconds of their start, in every replicate.

    Its logarithm is normal between runs of a group. The variance of group means and of new runs
    follows from the pooled sample variance with n degrees of freedom, moderated by a prior:

        sigma^2 = (d0 s0^2 + sum of squares) / chi^2_{d0 + n}
        log x   = mean of the group + sigma (z_group / sqrt(runs of the group) + z_run)

    so that few runs give wide intervals, as Student's t does. `z_group` is shared by all new runs
    of a group, and `z_run` is drawn for each.

    Args:
      values: of the measured runs, by group; each shape [runs], or [runs, B] if it was resampled.
      rng: of the draws.

    Source: the moderated variance is that of limma (Smyth 2004).
    """

    def __init__(self, values: Mapping[str, Sequence[Floats | float]], rng: np.random.Generator):
        self._rng = rng
        logs_RB = {
            group: np.stack([np.broadcast_to(_log(value), REPLICATES) for value in found])
            for group, found in values.items()
        }
        deviations = [logs.mean(axis=1) - logs.mean() for logs in logs_RB.values()]
        freedom = PRIOR_RUNS + sum(len(found) - 1 for found in deviations)
        squares = PRIOR_RUNS * PRIOR_SHARE**2 + sum(float(found @ found) for found in deviations)
        self._sigma_B = np.sqrt(squares / rng.chisquare(freedom, REPLICATES))
        self._mean_B = {
            group: logs.mean(axis=0) + self._sigma_B / np.sqrt(len(logs)) * self._normal()
            for group, logs in logs_RB.items()
        }

    def draw(self, group: str = "") -> Floats:
        """The figure of a new run of a group, shape [B]."""
        return np.exp(self._mean_B[group] + self._sigma_B * self._normal())

    def _normal(self) -> Floats:
        return self._rng.standard_normal(REPLICATES)


def _log(values: Floats | float) -> Floats:
    return np.log(np.maximum(values, _SMALLEST))
