"""The learning rule: advantages, token transforms and their parameters."""

from typing import Annotated, Any, Literal

from pydantic import Field

import retrain_core
from retrain_backends.config.section import (
    CountOrZero,
    FreeTable,
    NameOrPlugin,
    NonNegative,
    Section,
    Share,
    Text,
)

AdvantageMode = Annotated[Text, NameOrPlugin("advantage", tuple(retrain_core.ADVANTAGE_MODES))]
TransformMode = Annotated[Text, NameOrPlugin("transform", tuple(retrain_core.TRANSFORM_MODES))]


class AlgorithmConfig(Section):
    """The learning rule."""

    algorithm_mode: Annotated[str, NameOrPlugin("algorithm", ("",))] = Field(
        default="",
        description="A plugin that replaces advantage and transform. Empty: the two below.",
    )
    advantage_mode: AdvantageMode = Field(
        default="maxrl", description="How a group's rewards become one advantage per completion."
    )
    transform_mode: TransformMode = Field(
        default="gtpo_sepa", description="How a completion's advantage is spread over its tokens."
    )
    uncertainty_kind: Literal["surprisal", "predictive_variance", "shannon_entropy"] = Field(
        default="surprisal",
        description="What counts as a token's uncertainty. `shannon_entropy` needs an engine that "
        "reports it.",
    )
    importance_cap: NonNegative = Field(
        default=0.0,
        description="Truncated importance sampling, for an engine that is not the trainer: upper "
        "bound on each token's ratio of trainer to sampler. 0: off. Excludes `clip_eps`.",
    )
    params: FreeTable = Field(
        default_factory=dict,
        description="Parameters of the rule as a whole: `advantage_cap`, `batch_advantage_norm`, "
        "`clip_eps`, `clip_eps_high`, and those of an `algorithm_mode` plugin.",
    )
    advantage_params: FreeTable = Field(
        default_factory=dict, description="Extra parameters of the advantage."
    )
    transform_params: FreeTable = Field(
        default_factory=dict,
        description="Extra parameters of the transform, for example `entropy_mask_rho`.",
    )

    def loss_options(self) -> "retrain_core.LossOptions":
        """The bounds on the ratio in the loss, which the backend applies; 0 means off."""
        params: dict[str, Any] = {**self.params}
        return retrain_core.LossOptions(
            clip_eps=params.get("clip_eps") or None,
            clip_eps_high=params.get("clip_eps_high") or None,
            importance_cap=self.importance_cap or None,
        )


class GtpoConfig(Section):
    """GTPO: tokens of higher uncertainty get a larger share of the advantage."""

    beta: NonNegative = Field(default=0.1, description="Strength; 0 turns GTPO off.")


class HicraConfig(Section):
    """HICRA: planning tokens count more."""

    alpha: NonNegative = Field(
        default=0.2, description="Share of its own size by which a planning token is raised."
    )


class SepaConfig(Section):
    """SEPA: the uncertainty of execution tokens is pooled, increasingly during training."""

    steps: CountOrZero = Field(
        default=500,
        description="Steps over which pooling grows from 0 to 1. 0: no growth by steps.",
    )
    schedule: Literal["linear", "auto"] = Field(
        default="linear",
        description="`linear` follows the steps; `auto` grows faster when the variance of "
        "execution uncertainty falls.",
    )
    delay_steps: CountOrZero = Field(default=50, description="Steps before pooling begins.")
    correct_rate_gate: Annotated[float, Field(le=1)] = Field(
        default=0.1,
        description="Pooling starts after the first step whose correct rate reaches this. "
        "0 or less: no gate.",
    )


class PlanningConfig(Section):
    """How planning tokens are distinguished from execution tokens."""

    detector: Annotated[Text, NameOrPlugin("detector", ("regex", "semantic"))] = Field(
        default="regex",
        description="`regex` marks phrases such as 'let me check'; `semantic` marks sentences that "
        "resemble planning more than execution, by a sentence-embedding model (extra `semantic`).",
    )
    model: Text = Field(
        default="all-MiniLM-L6-v2",
        description="Embedding model of the `semantic` detector: a directory, or the name of a "
        "sentence-transformers model on the hub.",
    )
    threshold: Share = Field(
        default=0.02,
        description="Margin above which a sentence is planning: its cosine with the planning "
        "phrases minus its cosine with the execution phrases (`semantic`).",
    )
    device: Text = Field(
        default="cpu", description="Device of the embedding model, such as `cuda:0` (`semantic`)."
    )
