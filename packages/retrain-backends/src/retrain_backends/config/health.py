"""What is watched while a run goes on, and when it warns or stops the run."""

from typing import Literal

from pydantic import Field

from retrain_backends.config.section import Count, NonNegative, Section, Share


class HealthConfig(Section):
    """Figures that tell a sick run. A `warn_` key says so once, a `stop_` key ends the run."""

    probe: Literal["off", "warn", "stop"] = Field(
        default="warn",
        description="Sample a few tokens before the first step and score them with the trainer, to "
        "find out whether the engine's tokens and log-probs are what training takes them for; "
        "after the first optimiser step, whether it samples from the trained adapter.",
    )
    max_nonfinite_steps: Count = Field(
        default=1,
        description="The run stops at so many steps whose loss or gradient is not a finite number. "
        "Such a step trains nothing; its batch is kept.",
    )
    warn_logprob_diff: NonNegative = Field(
        default=0.05,
        description="Mean distance between the sampler's and the trainer's log-probs, nats a "
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
        description="Entropy of the policy, nats a token, at which it has collapsed: the figure "
        "is this or less. 0: off.",
    )
    stop_entropy: NonNegative = Field(default=0.0, description="The same, to stop. 0: off.")
    warn_truncated: Share = Field(
        default=0.5, description="Share of completions that `max_tokens` cut off. 0: off."
    )
    stop_truncated: Share = Field(default=0.0, description="The same, to stop. 0: off.")
    warn_repeated: Share = Field(
        default=0.2,
        description="Share of completions that say the same over and over: of the 8-grams of at "
        "least 32 tokens, half or more were there before. 0: off.",
    )
    stop_repeated: Share = Field(default=0.0, description="The same, to stop. 0: off.")
