"""Health checks of a run, and the thresholds at which they warn or stop it."""

from typing import Literal

from pydantic import Field

from retrain_backends.config.section import Count, NonNegative, Section, Share


class HealthConfig(Section):
    """Thresholds for figures of every step. `warn_` keys print a warning, `stop_` keys stop."""

    probe: Literal["off", "warn", "stop"] = Field(
        default="warn",
        description="Sample a few tokens before the first step and score them with the trainer, to "
        "check that the engine's tokens and log-probs are what training assumes; after the first "
        "optimiser step, check that it samples from the trained adapter.",
    )
    max_nonfinite_steps: Count = Field(
        default=1,
        description="Number of steps with a non-finite loss or gradient at which the run stops. "
        "Such a step trains nothing; its batch is saved.",
    )
    warn_logprob_diff: NonNegative = Field(
        default=0.05,
        description="Mean distance between the sampler's and the trainer's log-probs, nats per "
        "token. 0: off.",
    )
    stop_logprob_diff: NonNegative = Field(default=1.0, description="The same, to stop. 0: off.")
    warn_ratio_p99: NonNegative = Field(
        default=2.0, description="99 % quantile of the ratio of trainer to sampler. 0: off."
    )
    stop_ratio_p99: NonNegative = Field(default=0.0, description="The same, to stop. 0: off.")
    warn_kl_k3: NonNegative = Field(
        default=0.0, description="The k3 estimate of KL(sampler || trainer), nats. 0: off."
    )
    stop_kl_k3: NonNegative = Field(default=0.0, description="The same, to stop. 0: off.")
    warn_entropy: NonNegative = Field(
        default=0.001,
        description="Entropy of the policy, nats per token, at or below which it has collapsed. "
        "0: off.",
    )
    stop_entropy: NonNegative = Field(default=0.0, description="The same, to stop. 0: off.")
    warn_truncated: Share = Field(
        default=0.5, description="Share of completions that `max_tokens` cut off. 0: off."
    )
    stop_truncated: Share = Field(default=0.0, description="The same, to stop. 0: off.")
    warn_repeated: Share = Field(
        default=0.2,
        description="Share of repetitive completions: at least 32 tokens, and at most half of the "
        "8-grams are distinct. 0: off.",
    )
    stop_repeated: Share = Field(default=0.0, description="The same, to stop. 0: off.")
