"""Transform modes: the named chains of token transforms, and the form that a plug-in has.

Every mode is a function `(TransformInput, *, parameters) -> Transformed`. The order within a
chain is fixed: SEPA, GTPO, HICRA, entropy mask.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from retrain_core.arrays import Floats, Mask
from retrain_core.batch import CompletionBatch
from retrain_core.segments import spread
from retrain_core.transforms import (
    entropy_mask,
    gtpo,
    hicra,
    sepa_amp,
    sepa_amp_clamped,
    sepa_pool,
)


@dataclass(frozen=True)
class TransformInput:
    """What a transform sees: the whole step in flat arrays, only tokens that the policy sampled.

    Attributes:
      batch: rewards, offsets and log-probs of the step; never changed.
      advantages: episode advantage of each completion, shape [n].
      uncertainty: `h` of each token, shape [t].
      planning: True for planning tokens, shape [t].
      sepa_lambda: strength of SEPA at this step, in [0, 1].
    """

    batch: CompletionBatch
    advantages: Floats
    uncertainty: Floats
    planning: Mask
    sepa_lambda: float


class Transformed(NamedTuple):
    """Token advantages, shape [t], and the uncertainty that weighed them (None: nothing did)."""

    advantages: Floats
    uncertainty: Floats | None = None


TransformFunction: TypeAlias = Callable[..., Transformed]


def _weighed(tokens: TransformInput, uncertainty_t: Floats, beta: float) -> Transformed:
    weighed_t = gtpo(tokens.advantages, uncertainty_t, beta, tokens.batch.token_offsets)
    return Transformed(weighed_t, uncertainty_t)


def _none(tokens: TransformInput) -> Transformed:
    return Transformed(spread(tokens.advantages, tokens.batch.token_offsets))


def _gtpo(tokens: TransformInput, *, gtpo_beta: float = 0.1) -> Transformed:
    return _weighed(tokens, tokens.uncertainty, gtpo_beta)


def _gtpo_hicra(
    tokens: TransformInput, *, gtpo_beta: float = 0.1, hicra_alpha: float = 0.2
) -> Transformed:
    weighed_t = _weighed(tokens, tokens.uncertainty, gtpo_beta).advantages
    return Transformed(hicra(weighed_t, tokens.planning, hicra_alpha), tokens.uncertainty)


def _gtpo_sepa(tokens: TransformInput, *, gtpo_beta: float = 0.1) -> Transformed:
    pooled_t = sepa_pool(
        tokens.uncertainty, tokens.planning, tokens.sepa_lambda, tokens.batch.token_offsets
    )
    return _weighed(tokens, pooled_t, gtpo_beta)


def _gtpo_sepa_amp(tokens: TransformInput, *, gtpo_beta: float = 0.1) -> Transformed:
    amplified_t = sepa_amp(
        tokens.uncertainty, tokens.planning, tokens.sepa_lambda, tokens.batch.token_offsets
    )
    return _weighed(tokens, amplified_t, gtpo_beta)


def _gtpo_sepa_amp_c(tokens: TransformInput, *, gtpo_beta: float = 0.1) -> Transformed:
    amplified_t = sepa_amp_clamped(
        tokens.uncertainty, tokens.planning, tokens.sepa_lambda, tokens.batch.token_offsets
    )
    return _weighed(tokens, amplified_t, gtpo_beta)


def _entropy_mask(
    tokens: TransformInput, *, gtpo_beta: float = 0.1, entropy_mask_rho: float = 0.2
) -> Transformed:
    masked_t = entropy_mask(
        _weighed(tokens, tokens.uncertainty, gtpo_beta).advantages,
        tokens.uncertainty,
        entropy_mask_rho,
        tokens.batch.group_token_offsets,
    )
    return Transformed(masked_t, tokens.uncertainty)


TRANSFORM_MODES: Final[Mapping[str, TransformFunction]] = {
    "none": _none,
    "gtpo": _gtpo,
    "entropy_mask": _entropy_mask,
    "gtpo_hicra": _gtpo_hicra,
    "gtpo_sepa": _gtpo_sepa,
    "gtpo_sepa_amp": _gtpo_sepa_amp,
    "gtpo_sepa_amp_c": _gtpo_sepa_amp_c,
}
