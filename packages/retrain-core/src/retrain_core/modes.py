"""Transform modes: the named chains of token transforms, and the form that a plug-in has.

Every mode is a function `(TransformInput, *, parameters) -> token advantages, shape [t]`. The order
within a chain is fixed: SEPA, GTPO, HICRA, entropy mask.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

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
      batch: rewards, offsets and log-probs of the step; not to be changed.
      advantages: episode advantage of each completion, shape [n].
      uncertainty: `h` of each token, shape [t]; a fresh array that the transform may overwrite.
      planning: True for planning tokens, shape [t].
      sepa_lambda: strength of SEPA at this step, in [0, 1].
    """

    batch: CompletionBatch
    advantages: Floats
    uncertainty: Floats
    planning: Mask
    sepa_lambda: float


TransformFunction: TypeAlias = Callable[..., Floats]
SepaFunction: TypeAlias = Callable[..., Floats]


def _none(tokens: TransformInput) -> Floats:
    return spread(tokens.advantages, tokens.batch.token_offsets)


def _gtpo(tokens: TransformInput, *, gtpo_beta: float = 0.1) -> Floats:
    return gtpo(
        tokens.advantages,
        tokens.uncertainty,
        gtpo_beta,
        tokens.batch.token_offsets,
        out=tokens.uncertainty,
    )


def _gtpo_hicra(
    tokens: TransformInput, *, gtpo_beta: float = 0.1, hicra_alpha: float = 0.2
) -> Floats:
    return hicra(_gtpo(tokens, gtpo_beta=gtpo_beta), tokens.planning, hicra_alpha)


def _after_sepa(sepa: SepaFunction, tokens: TransformInput, gtpo_beta: float) -> Floats:
    sepa(
        tokens.uncertainty,
        tokens.planning,
        tokens.sepa_lambda,
        tokens.batch.token_offsets,
        out=tokens.uncertainty,
    )
    return _gtpo(tokens, gtpo_beta=gtpo_beta)


def _gtpo_sepa(tokens: TransformInput, *, gtpo_beta: float = 0.1) -> Floats:
    return _after_sepa(sepa_pool, tokens, gtpo_beta)


def _gtpo_sepa_amp(tokens: TransformInput, *, gtpo_beta: float = 0.1) -> Floats:
    return _after_sepa(sepa_amp, tokens, gtpo_beta)


def _gtpo_sepa_amp_c(tokens: TransformInput, *, gtpo_beta: float = 0.1) -> Floats:
    return _after_sepa(sepa_amp_clamped, tokens, gtpo_beta)


def _entropy_mask(
    tokens: TransformInput, *, gtpo_beta: float = 0.1, entropy_mask_rho: float = 0.2
) -> Floats:
    weighed_t = gtpo(tokens.advantages, tokens.uncertainty, gtpo_beta, tokens.batch.token_offsets)
    return entropy_mask(
        weighed_t, tokens.uncertainty, entropy_mask_rho, tokens.batch.group_token_offsets
    )


TRANSFORM_MODES: Final[Mapping[str, TransformFunction]] = {
    "none": _none,
    "gtpo": _gtpo,
    "entropy_mask": _entropy_mask,
    "gtpo_hicra": _gtpo_hicra,
    "gtpo_sepa": _gtpo_sepa,
    "gtpo_sepa_amp": _gtpo_sepa_amp,
    "gtpo_sepa_amp_c": _gtpo_sepa_amp_c,
}
