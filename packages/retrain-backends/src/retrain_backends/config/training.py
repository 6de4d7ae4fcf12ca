"""Training: steps, batches, optimiser, batch-size control, resuming."""

from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from retrain_backends.config.section import (
    LARGEST_SEED,
    Allowed,
    Count,
    CountOrZero,
    NonNegative,
    PositiveShare,
    Section,
)


class TrainingConfig(Section):
    """Steps, batches, sampling and learning rate."""

    seed: Annotated[
        int, Field(ge=-1, le=LARGEST_SEED), Allowed("an integer >= -1 and below 2^63")
    ] = Field(
        default=-1,
        description="Seed of all random numbers of the run. -1: a random seed, which is recorded.",
    )
    max_steps: Count = Field(default=500, description="Training steps.")
    batch_size: Count = Field(default=8, description="Prompts per step.")
    group_size: Count = Field(default=16, description="Completions per prompt.")
    max_tokens: Count = Field(
        default=2048, description="Maximum length of a completion, in tokens."
    )
    temperature: NonNegative = Field(
        default=0.7, description="Sampling temperature, the same for sampling and for the loss."
    )
    lr: NonNegative = Field(default=4e-5, description="Learning rate of AdamW.")
    weight_decay: NonNegative = Field(default=0.0, description="Weight decay of AdamW.")
    max_examples: CountOrZero = Field(
        default=0, description="Number of examples to train on, from the first. 0: all."
    )
    save_every: Count = Field(
        default=20, description="Steps between two checkpoints; the last step is always saved."
    )
    keep_last: Count = Field(default=2, description="Number of newest checkpoints to keep.")
    keep_best: bool = Field(
        default=True,
        description="Save a checkpoint whenever an evaluation is the best so far, and keep it.",
    )


class OptimizerConfig(Section):
    """AdamW, besides learning rate and weight decay."""

    beta1: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.9, description="Decay of the running mean of the gradient."
    )
    beta2: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.95, description="Decay of the running mean of the squared gradient."
    )
    eps: Annotated[float, Field(gt=0)] = Field(
        default=1e-8, description="Added to the denominator of the update."
    )


class BackpressureConfig(Section):
    """Chooses the batch size by measured throughput, after the universal scalability law."""

    enabled: bool = Field(default=False, description="Adapt the batch size to the throughput.")
    warmup_steps: CountOrZero = Field(
        default=10, description="Steps that try out batch sizes before control starts."
    )
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.9, description="Decay of the running mean of the throughput."
    )
    throttle_margin: PositiveShare = Field(
        default=0.85, description="Target concurrency, as a share of the optimal one."
    )
    increase_margin: PositiveShare = Field(
        default=0.5, description="Share of the target below which the batch grows."
    )
    min_batch_size: Count = Field(default=1, description="Smallest batch, in prompts.")
    max_batch_size: Count = Field(default=64, description="Largest batch, in prompts.")
    peak_gflops: NonNegative = Field(
        default=0.0, description="Peak GFLOP/s of the device, for roofline hints. 0: unknown."
    )
    peak_bw_gb_s: NonNegative = Field(
        default=0.0, description="Peak memory bandwidth in GB/s, for roofline hints. 0: unknown."
    )

    @model_validator(mode="after")
    def _smallest_before_largest(self) -> Self:
        if self.min_batch_size > self.max_batch_size:
            raise ValueError(
                f"min_batch_size ({self.min_batch_size}) must not be above "
                f"max_batch_size ({self.max_batch_size})"
            )
        return self


class ResumeConfig(Section):
    """Resuming an earlier run."""

    model_config = ConfigDict(validate_by_name=True)

    from_: str = Field(
        default="",
        validation_alias="from",
        serialization_alias="from",
        description="Directory of the run to resume. Empty: a new run.",
    )
