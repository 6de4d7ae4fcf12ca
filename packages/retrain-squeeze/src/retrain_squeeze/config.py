"""What an analysis is told: `[squeeze]`, and what it reads of `[model]` and `[logging]`.

`retrain_backends` knows the same keys, for the files of training runs; neither package can import
the other, so a test compares them.
"""

import re
from dataclasses import dataclass
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


class Section(BaseModel):
    """One TOML table: no unknown keys, no silent conversion of types, no NaN, no change later."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


@dataclass(frozen=True)
class Allowed:
    """The values that a field allows, in words, for help and error messages."""

    text: str


def without_password(text: str) -> str:
    """The text without what an address in it has between :// and @."""
    return re.sub(r"(?<=://).*@", "...@", text)


def _tuple_from_list(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _distinct(values: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(values)) < len(values):
        raise ValueError("repeated value")
    return values


Count: TypeAlias = Annotated[int, Field(ge=1)]
CountOrZero: TypeAlias = Annotated[int, Field(ge=0), Allowed("an integer >= 0")]
PositiveShare: TypeAlias = Annotated[float, Field(gt=0, le=1), Allowed("a number > 0 and <= 1")]
String: TypeAlias = Annotated[str, Allowed("text")]
Text: TypeAlias = Annotated[str, Field(min_length=1), Allowed("text, not empty")]
Switch: TypeAlias = Annotated[bool, Allowed("true or false")]
ADDRESS = "an address that starts with http:// or https://, with no user or password before an `@`"
Url: TypeAlias = Annotated[
    str,
    Field(pattern=r"^(https?://[!-?A-~]+)?$"),
    Allowed(f'{ADDRESS} (a key belongs in an environment variable), or ""'),
]
"""It goes into files and messages, so a password has no place in it."""
Ranks: TypeAlias = Annotated[
    tuple[Count, ...],
    BeforeValidator(_tuple_from_list),
    AfterValidator(_distinct),
    Allowed("a list of integers >= 1, without repetition"),
]


class SqueezeConfig(Section):
    """Analysis of the rank that an adapter needs. Present only when written."""

    min_variance_retention: PositiveShare = Field(
        default=0.95, description="Share of the update's variance that the rank must keep."
    )
    adapter_path: String = Field(
        default="",
        description="Adapter to analyse: a PEFT directory or a `tinker://` path; nothing is "
        "trained then. Empty: the one that the run trains.",
    )
    source_rank: CountOrZero = Field(
        default=0, description="Rank of that adapter. 0: read it from the adapter."
    )
    target_ranks: Ranks = Field(
        default=(), description="Ranks to look at. Empty: the powers of two below the source rank."
    )
    output_path: String = Field(
        default="", description="Directory for the compressed adapter. Empty: only analyse."
    )
    compress_to: CountOrZero = Field(
        default=0, description="Rank to compress to. 0: the recommended one."
    )
    per_module: Switch = Field(
        default=False,
        description="Compress each module to a rank of its own: as much variance is kept with "
        "fewer parameters.",
    )
    device: Text = Field(default="cpu", description="Device that computes, such as `cuda:0`.")


class ModelConfig(Section):
    """What an analysis reads of the table of the trained model."""

    base_url: Url = Field(
        default="",
        description="Address of a Tinker-compatible service. Empty: the public one. The key is "
        "read from `TINKER_API_KEY`.",
    )


class LoggingConfig(Section):
    """What an analysis reads of the table of logs."""

    wandb_project: String = Field(
        default="", description="Weights & Biases project. Empty: no Weights & Biases."
    )
    wandb_run_name: String = Field(
        default="", description="Name of the run there. Empty: `squeeze-analysis`."
    )
    wandb_entity: String = Field(default="", description="Team or user there.")
    wandb_group: String = Field(default="", description="Group of the run there.")
    wandb_tags: String = Field(default="", description="Tags of the run there, comma-separated.")


class SqueezeJob(Section):
    """All that one analysis is told."""

    squeeze: SqueezeConfig = Field(default_factory=SqueezeConfig)
    model: ModelConfig = Field(default_factory=ModelConfig)
    logging: LoggingConfig = Field(default_factory=LoggingConfig)
