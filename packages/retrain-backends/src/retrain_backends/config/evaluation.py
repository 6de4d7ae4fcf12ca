"""Evaluation on held-out questions."""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from retrain_backends.config.section import (
    Allowed,
    Count,
    CountOrZero,
    ListFromToml,
    NameOrPlugin,
    Section,
    distinct,
)


def _not_between(temperature: float) -> float:
    if -1 < temperature < 0:
        raise ValueError("neither a temperature nor -1")
    return temperature


PassK = Annotated[
    tuple[Count, ...],
    Field(min_length=1),
    ListFromToml,
    AfterValidator(distinct),
    Allowed("a list of at least one integer >= 1, without repetition"),
]
EvalTemperature = Annotated[
    float, Field(ge=-1), AfterValidator(_not_between), Allowed("a number >= 0, or -1")
]


class EvalConfig(Section):
    """Evaluation on held-out questions: before the first step, at intervals, and at the end."""

    every: CountOrZero = Field(
        default=0, description="Steps between two evaluations. 0: no evaluation."
    )
    source: Annotated[str, NameOrPlugin("source", ("", "math", "arithmetic", "jsonl", "hf"))] = (
        Field(default="", description="Source of the questions. Empty: that of `[data]`.")
    )
    path: str = Field(
        default="",
        description="File, directory or hub id. Empty: that of `[data]`, if `source` is empty too.",
    )
    split: str = Field(
        default="",
        description="Split of the source. Empty: `test`; `jsonl` and `hf` without `path` require "
        "a split.",
    )
    max_examples: CountOrZero = Field(
        default=100,
        description="Number of questions, the same ones for every seed and rule. 0: all.",
    )
    samples: Count = Field(default=1, description="Completions of each question.")
    temperature: EvalTemperature = Field(
        default=-1.0,
        description="Sampling temperature. -1: that of training, so that the trained policy is "
        "measured. 0: greedy, always the most probable token.",
    )
    pass_k: PassK = Field(
        default=(1,),
        description="Report pass@k, the probability that one of k completions is right, for each "
        "k.",
    )

    def temperature_beside(self, training: float) -> float:
        """The sampling temperature, given that of training."""
        return training if self.temperature < 0 else self.temperature

    def due_after(self, max_steps: int) -> list[int]:
        """The step counts after which a run of `max_steps` evaluates, ascending."""
        return sorted({*range(0, max_steps, self.every), max_steps}) if self.every else []

    @model_validator(mode="after")
    def _samples_differ(self) -> Self:
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(
                f"samples = {self.samples} needs a temperature above 0: greedy completions of a "
                "question are identical"
            )
        if (largest := max(self.pass_k)) > self.samples:
            raise ValueError(
                f"pass_k = {largest} needs at least as many samples; samples is {self.samples}"
            )
        return self
