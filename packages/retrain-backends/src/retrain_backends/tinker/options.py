"""`[backend.options]` of the Tinker backend."""

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import Field, model_validator

from retrain_backends.config import read_backend_options
from retrain_backends.config.section import (
    Allowed,
    Count,
    CountOrZero,
    NonNegative,
    Section,
    Share,
)


class Prices(Section):
    """`[backend.options.prices]`: what a million tokens cost, in a currency of your choice."""

    prompt: NonNegative = Field(description="Of prompts that are sampled from.")
    sampled: NonNegative = Field(description="Of sampled completions.")
    trained: NonNegative = Field(description="Of sequences that are trained on.")


class TinkerOptions(Section):
    """`[backend.options]` with `backend = "tinker"`."""

    max_steps_off_policy: Annotated[int, Field(ge=0, le=1), Allowed("0 or 1")] = Field(
        default=0,
        description="1: sample the next step while this one trains, so that its completions come "
        "from the policy of one step before; the metrics say so. 0: one after the other.",
    )
    timeout_s: Annotated[float, Field(gt=0)] = Field(
        default=1800.0, description="Longest wait for the answer to one call."
    )
    max_failed_prompts: Share = Field(
        default=0.2,
        description="Largest share of the prompts of a step or an evaluation that may stay without "
        "an answer after the SDK's own retries; above it the run ends.",
    )
    step_tokens: Count = Field(
        default=65536,
        description="Tokens of one forward and backward pass; a larger batch is split into several "
        "before the optimiser's step.",
    )
    wait_for_gradient: bool = Field(
        default=False,
        description="Submit the optimiser's step only after the gradient has been computed: one "
        "more round trip, for servers that may process the two out of order.",
    )
    checkpoint_ttl_s: CountOrZero = Field(
        default=0, description="How long the service keeps a checkpoint. 0: for ever."
    )
    download_adapter: bool = Field(
        default=False,
        description="Download the adapter with every checkpoint and at the end, as a PEFT "
        "directory. Otherwise the service keeps it, under a `tinker://` path.",
    )
    train_mlp: bool = Field(default=True, description="Adapt the feed-forward layers.")
    train_attn: bool = Field(default=True, description="Adapt the attention layers.")
    train_unembed: bool = Field(default=True, description="Adapt the output layer.")
    prices: Annotated[Prices | None, Allowed("a table with prompt, sampled and trained")] = Field(
        default=None,
        description="Prices per million tokens: the metrics then have the cost, and "
        "`retrain explain` a forecast.",
    )
    max_cost: NonNegative = Field(
        default=0.0,
        description="End the run, with a checkpoint, at this cost; needs `prices`. 0: no limit.",
    )
    max_hours: NonNegative = Field(
        default=0.0,
        description="End the run, with a checkpoint, after so many hours. 0: no limit.",
    )

    @model_validator(mode="after")
    def _cost_needs_prices(self) -> Self:
        if self.max_cost and self.prices is None:
            raise ValueError(
                f"max_cost = {self.max_cost:g} needs the prices of tokens: add "
                "prices = {prompt = ..., sampled = ..., trained = ...}, per million tokens"
            )
        return self


def parse_options(options: Mapping[str, object]) -> TinkerOptions:
    """Validate `[backend.options]`.

    Raises:
      ConfigError: holds a line for every mistake.
    """
    return read_backend_options(TinkerOptions, options)
