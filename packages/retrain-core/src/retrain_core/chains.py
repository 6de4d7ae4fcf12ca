"""The chains of token transforms that the transform modes run, and what a transform gets.

Every chain is a function `(TransformInput, *, parameters) -> token advantages, shape [t]`, named as
its mode; `modes.py` has the defaults of its parameters. The order within a chain is fixed: SEPA,
GTPO, HICRA, entropy mask.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from retrain_core import transforms
from retrain_core.arrays import Floats, Mask
from retrain_core.batch import CompletionBatch
from retrain_core.segments import spread


@dataclass(frozen=True)
class TransformInput:
    """What a transform gets: the whole step in flat arrays, only tokens that the policy sampled.

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


def none(tokens: TransformInput) -> Floats:
    """Give every token the advantage of its completion."""
    return spread(tokens.advantages, tokens.batch.token_offsets)


def gtpo(tokens: TransformInput, *, gtpo_beta: float) -> Floats:
    """Run GTPO; the uncertainties are overwritten."""
    return transforms.gtpo(
        tokens.advantages,
        tokens.uncertainty,
        gtpo_beta,
        tokens.batch.token_offsets,
        out=tokens.uncertainty,
    )


def gtpo_hicra(tokens: TransformInput, *, gtpo_beta: float, hicra_alpha: float) -> Floats:
    """Run GTPO, then HICRA."""
    return transforms.hicra(gtpo(tokens, gtpo_beta=gtpo_beta), tokens.planning, hicra_alpha)


def _after_sepa(sepa: SepaFunction, tokens: TransformInput, gtpo_beta: float) -> Floats:
    sepa(
        tokens.uncertainty,
        tokens.planning,
        tokens.sepa_lambda,
        tokens.batch.token_offsets,
        out=tokens.uncertainty,
    )
    return gtpo(tokens, gtpo_beta=gtpo_beta)


def gtpo_sepa(tokens: TransformInput, *, gtpo_beta: float) -> Floats:
    """Pool the uncertainties of execution tokens (SEPA), then run GTPO."""
    return _after_sepa(transforms.sepa_pool, tokens, gtpo_beta)


def gtpo_sepa_amp(tokens: TransformInput, *, gtpo_beta: float) -> Floats:
    """Drive the uncertainties of execution tokens apart, then run GTPO."""
    return _after_sepa(transforms.sepa_amp, tokens, gtpo_beta)


def gtpo_sepa_amp_c(tokens: TransformInput, *, gtpo_beta: float) -> Floats:
    """As `gtpo_sepa_amp`, with uncertainties of at least 0."""
    return _after_sepa(transforms.sepa_amp_clamped, tokens, gtpo_beta)


def entropy_mask(tokens: TransformInput, *, gtpo_beta: float, entropy_mask_rho: float) -> Floats:
    """Run GTPO, then the entropy mask."""
    weighed_t = transforms.gtpo(
        tokens.advantages, tokens.uncertainty, gtpo_beta, tokens.batch.token_offsets
    )
    return transforms.entropy_mask(
        weighed_t, tokens.uncertainty, entropy_mask_rho, tokens.batch.group_token_offsets
    )
