"""The mathematics of reinforcement learning with verifiable rewards, on numpy arrays.

Names are loaded on first use, so `import retrain_core` costs no more than the interpreter.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from retrain_core.advantages import (
        AdvantageFunction,
        grpo,
        grpo_std,
        maxrl,
        reinforce_pp,
        rloo,
    )
    from retrain_core.algorithm import Algorithm, TokenAdvantages
    from retrain_core.batch import CompletionBatch
    from retrain_core.bookkeeping import (
        RewardTies,
        RunningCount,
        StepBookkeeping,
        informative_groups,
        reward_ties,
        step_bookkeeping,
    )
    from retrain_core.chains import TransformFunction, TransformInput
    from retrain_core.entropy import (
        UNCERTAINTY_CAP,
        UNCERTAINTY_KINDS,
        EntropyStats,
        entropy_stats,
        predictive_variance,
        shannon_entropy,
        surprisal,
        uncertainty,
    )
    from retrain_core.evaluation import QuestionOutcomes, pass_at_k, question_outcomes
    from retrain_core.losses import (
        LossOptions,
        PolicyLoss,
        policy_loss,
        policy_loss_from_logits,
    )
    from retrain_core.modes import (
        ADVANTAGE_MODES,
        TRANSFORM_MODES,
        AdvantageSpec,
        TransformSpec,
    )
    from retrain_core.planning import (
        DEFAULT_GRAMS,
        parse_strategic_grams,
        planning_mask,
        span_mask,
    )
    from retrain_core.postprocess import (
        Capped,
        Normalised,
        advantage_cap,
        batch_advantage_norm,
    )
    from retrain_core.repetition import distinct_ngram_share
    from retrain_core.segments import offsets_from_lengths, segment_mean, segment_sum, spread
    from retrain_core.sepa import SepaSchedule, SepaState
    from retrain_core.transforms import (
        entropy_mask,
        entropy_threshold,
        gtpo,
        hicra,
        sepa_amp,
        sepa_amp_clamped,
        sepa_pool,
    )

__version__ = "0.1.0"

_NAMES_BY_MODULE = {
    "advantages": (
        "AdvantageFunction",
        "grpo",
        "grpo_std",
        "maxrl",
        "reinforce_pp",
        "rloo",
    ),
    "algorithm": ("Algorithm", "TokenAdvantages"),
    "batch": ("CompletionBatch",),
    "bookkeeping": (
        "RewardTies",
        "RunningCount",
        "StepBookkeeping",
        "informative_groups",
        "reward_ties",
        "step_bookkeeping",
    ),
    "chains": ("TransformFunction", "TransformInput"),
    "entropy": (
        "UNCERTAINTY_CAP",
        "UNCERTAINTY_KINDS",
        "EntropyStats",
        "entropy_stats",
        "predictive_variance",
        "shannon_entropy",
        "surprisal",
        "uncertainty",
    ),
    "evaluation": ("QuestionOutcomes", "pass_at_k", "question_outcomes"),
    "losses": ("LossOptions", "PolicyLoss", "policy_loss", "policy_loss_from_logits"),
    "modes": ("ADVANTAGE_MODES", "TRANSFORM_MODES", "AdvantageSpec", "TransformSpec"),
    "planning": ("DEFAULT_GRAMS", "parse_strategic_grams", "planning_mask", "span_mask"),
    "postprocess": ("Capped", "Normalised", "advantage_cap", "batch_advantage_norm"),
    "repetition": ("distinct_ngram_share",),
    "segments": ("offsets_from_lengths", "segment_mean", "segment_sum", "spread"),
    "sepa": ("SepaSchedule", "SepaState"),
    "transforms": (
        "entropy_mask",
        "entropy_threshold",
        "gtpo",
        "hicra",
        "sepa_amp",
        "sepa_amp_clamped",
        "sepa_pool",
    ),
}
_MODULE_OF = {name: module for module, names in _NAMES_BY_MODULE.items() for name in names}

__all__ = [
    "ADVANTAGE_MODES",
    "DEFAULT_GRAMS",
    "TRANSFORM_MODES",
    "UNCERTAINTY_CAP",
    "UNCERTAINTY_KINDS",
    "AdvantageFunction",
    "AdvantageSpec",
    "Algorithm",
    "Capped",
    "CompletionBatch",
    "EntropyStats",
    "LossOptions",
    "Normalised",
    "PolicyLoss",
    "QuestionOutcomes",
    "RewardTies",
    "RunningCount",
    "SepaSchedule",
    "SepaState",
    "StepBookkeeping",
    "TokenAdvantages",
    "TransformFunction",
    "TransformInput",
    "TransformSpec",
    "__version__",
    "advantage_cap",
    "batch_advantage_norm",
    "distinct_ngram_share",
    "entropy_mask",
    "entropy_stats",
    "entropy_threshold",
    "grpo",
    "grpo_std",
    "gtpo",
    "hicra",
    "informative_groups",
    "maxrl",
    "offsets_from_lengths",
    "parse_strategic_grams",
    "pass_at_k",
    "planning_mask",
    "policy_loss",
    "policy_loss_from_logits",
    "predictive_variance",
    "question_outcomes",
    "reinforce_pp",
    "reward_ties",
    "rloo",
    "segment_mean",
    "segment_sum",
    "sepa_amp",
    "sepa_amp_clamped",
    "sepa_pool",
    "shannon_entropy",
    "span_mask",
    "spread",
    "step_bookkeeping",
    "surprisal",
    "uncertainty",
]


def __getattr__(name: str) -> object:
    """Load a public name from its module the first time it is asked for (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module `retrain_core` has no attribute `{name}`")
    value: object = getattr(import_module(f"retrain_core.{_MODULE_OF[name]}"), name)
    globals()[name] = value  # the next use finds it without coming here
    return value


def __dir__() -> list[str]:
    return __all__
