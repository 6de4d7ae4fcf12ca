"""The policy's uncertainty about each sampled token, and its statistics over a step."""

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from retrain_core.arrays import Floats, as_floats, as_mask, check_rank
from retrain_core.names import look_up
from retrain_core.segments import CHUNK_TOKENS

# Largest uncertainty of a token, nats, so that one very unlikely token does not dominate a batch.
UNCERTAINTY_CAP: Final = 50.0

UNCERTAINTY_KINDS: Final[Mapping[str, str]] = {
    "surprisal": "surprisal",
    "nll": "surprisal",
    "predictive_variance": "predictive_variance",
    "pred_var": "predictive_variance",
    "shannon_entropy": "shannon_entropy",
    "entropy": "shannon_entropy",
}
"""The kind for each name; a kind may have aliases."""


def surprisal(logprobs: npt.ArrayLike) -> Floats:
    """Negative log-probability of each sampled token: `h = min(-l, 50)`.

    Args:
      logprobs: log-probability of each sampled token, nats, shape [t]; -inf gives 50.

    Returns:
      Surprisals, nats, shape [t].
    """
    h_t = np.negative(as_floats(logprobs, "logprobs"))
    return np.minimum(h_t, UNCERTAINTY_CAP, out=h_t)


def predictive_variance(logprobs: npt.ArrayLike) -> Floats:
    """Variance of the event that the token is sampled: `p = exp(max(l, -50))`, `h = p (1 - p)`.

    Args:
      logprobs: log-probability of each sampled token, nats, shape [t].

    Returns:
      Variances, at most 1/4, shape [t].
    """
    p_t = np.maximum(as_floats(logprobs, "logprobs"), -UNCERTAINTY_CAP)
    np.exp(p_t, out=p_t)
    return p_t * (1.0 - p_t)


def shannon_entropy(distributions_TV: npt.ArrayLike) -> Floats:
    """Entropy of each token's distribution: `h = min(-sum_v p_v ln p_v, 50)`, with 0 ln 0 = 0.

    Args:
      distributions_TV: probabilities over the vocabulary, rows sum to 1, shape [T, V].

    Returns:
      Entropies, nats, shape [T].
    """
    p_TV = np.asarray(distributions_TV, dtype=np.float64)
    check_rank(p_TV, 2, "distributions")
    ln_p_TV = np.log(np.where(p_TV > 0.0, p_TV, 1.0))
    return np.minimum(-np.sum(p_TV * ln_p_TV, axis=1), UNCERTAINTY_CAP)


def uncertainty(kind: str, logprobs: npt.ArrayLike, entropy: npt.ArrayLike | None = None) -> Floats:
    """Uncertainty of each token, of the named kind.

    Args:
      kind: `surprisal` (alias `nll`), `predictive_variance` (`pred_var`) or `shannon_entropy`
        (`entropy`); case does not matter.
      logprobs: log-probability of each sampled token, nats, shape [t].
      entropy: Shannon entropy of each token's distribution, nats, shape [t]; only
        `shannon_entropy` reads it, and caps it at 50.

    Returns:
      Uncertainties, at most 50, a new array of shape [t].

    Raises:
      ValueError: an unknown kind, or `shannon_entropy` without entropies.
    """
    name = look_up("uncertainty_kind", kind.lower(), UNCERTAINTY_KINDS)
    if name == "surprisal":
        return surprisal(logprobs)
    if name == "predictive_variance":
        return predictive_variance(logprobs)
    if entropy is None:
        raise ValueError(
            "uncertainty_kind `shannon_entropy` needs the entropy of every token, which was not "
            "given: use the inference engine `pytorch`, which reports it, or `surprisal`"
        )
    return np.minimum(as_floats(entropy, "entropy"), UNCERTAINTY_CAP)


class EntropyStats(NamedTuple):
    """Mean, population variance and count of the uncertainty of execution and planning tokens.

    Without tokens all three are 0, so a variance of 0 means something only if the count is not 0.
    """

    exec_mean: float = 0.0
    exec_var: float = 0.0
    exec_count: int = 0
    plan_mean: float = 0.0
    plan_var: float = 0.0
    plan_count: int = 0


class _Moments(NamedTuple):
    """Count, sum, and sum of squared deviations from the mean."""

    size: int
    total: float
    squares: float


def _moments(values: Floats, left_out: npt.NDArray[np.intp]) -> _Moments:
    """Moments of the values without those at the indices `left_out`."""
    count = values.size - left_out.size
    if count == 0:
        return _Moments(0, 0.0, 0.0)
    total = float(values.sum()) - float(values[left_out].sum())
    deviations = values - total / count
    deviations[left_out] = 0.0
    return _Moments(count, total, float(np.dot(deviations, deviations)))


def _pooled(moments: list[_Moments]) -> tuple[float, float, int]:
    """Mean, population variance and count of the union of all parts (Chan et al. 1979)."""
    parts_R3 = np.array(moments, dtype=np.float64).reshape(-1, 3)
    count_R, total_R, squares_R = parts_R3[parts_R3[:, 0] > 0].T
    count = float(count_R.sum())
    if count == 0.0:
        return 0.0, 0.0, 0
    mean = float(total_R.sum()) / count
    between = float(np.sum(count_R * (total_R / count_R - mean) ** 2))
    return mean, (float(squares_R.sum()) + between) / count, int(count)


def entropy_stats(uncertainty: npt.ArrayLike, planning: npt.ArrayLike) -> EntropyStats:
    """Statistics of the uncertainty of a step, for execution and for planning tokens.

    Args:
      uncertainty: `h` of every token before any transform, capped at 50 here, shape [t].
      planning: True for planning tokens, shape [t].

    Returns:
      The statistics; 0, 0, 0 for a kind that has no tokens.
    """
    h_t = as_floats(uncertainty, "uncertainty")
    planning_t = as_mask(planning, h_t.size, "planning")
    execution: list[_Moments] = []
    planned: list[_Moments] = []
    nothing = np.empty(0, dtype=np.intp)
    for start in range(0, h_t.size, CHUNK_TOKENS):
        chunk_t = np.minimum(h_t[start : start + CHUNK_TOKENS], UNCERTAINTY_CAP)
        planning_at = np.flatnonzero(planning_t[start : start + CHUNK_TOKENS])
        execution.append(_moments(chunk_t, planning_at))
        planned.append(_moments(chunk_t[planning_at], nothing))
    return EntropyStats(*_pooled(execution), *_pooled(planned))
