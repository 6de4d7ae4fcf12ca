"""Logs of a run, campaigns of many runs, and the analysis of an adapter's rank."""

import json
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

import retrain_core
from retrain_backends.config.algorithm import AdvantageMode, TransformMode
from retrain_backends.config.section import (
    Allowed,
    Count,
    CountOrZero,
    FreeTable,
    ListFromToml,
    NameOrPlugin,
    NonNegative,
    PositiveShare,
    Section,
    Seed,
    Text,
    distinct,
)


def _grams_as_text(value: object) -> object:
    """A list of phrases as the JSON list that a flag has."""
    is_list = isinstance(value, list) and all(isinstance(item, str) for item in value)
    return json.dumps(value, ensure_ascii=False) if is_list else value


def _readable_grams(text: str) -> str:
    if text:  # avoids importing numpy where it is not needed
        retrain_core.parse_strategic_grams(text)
    return text


Seeds: TypeAlias = Annotated[
    tuple[Seed, ...],
    Field(min_length=1),
    ListFromToml,
    AfterValidator(distinct),
    Allowed("a list of at least one integer >= 0, without repetition"),
]
Ranks: TypeAlias = Annotated[
    tuple[Count, ...],
    ListFromToml,
    AfterValidator(distinct),
    Allowed("a list of integers >= 1, without repetition"),
]
Trackers: TypeAlias = Annotated[
    tuple[Annotated[Text, NameOrPlugin("tracker", ("wandb",))], ...],
    ListFromToml,
    AfterValidator(distinct),
    Allowed('a list such as ["wandb", "my_module.MyTracker"], without repetition'),
]
Grams: TypeAlias = Annotated[
    str,
    BeforeValidator(_grams_as_text),
    AfterValidator(_readable_grams),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
    Allowed('a list such as ["let me think", "start over"], or phrases separated by commas'),
]


class LoggingConfig(Section):
    """The logs of a run, and its trackers."""

    log_dir: Text = Field(default="logs/train", description="Directory of the run's logs.")
    condition: str = Field(
        default="",
        description="Name of the learning rule in the logs. Empty: "
        "`{advantage_mode}+{transform_mode}`, or the `algorithm_mode`.",
    )
    trackers: Trackers = Field(
        default=(),
        description="Services that receive the figures of every step: `wandb`, or plugins. "
        "Setting `wandb_project` adds `wandb`.",
    )
    wandb_project: str = Field(
        default="", description="Weights & Biases project. Empty: no Weights & Biases."
    )
    wandb_run_name: str = Field(
        default="", description="Name of the run in Weights & Biases. Empty: the condition."
    )
    wandb_entity: str = Field(default="", description="Team or user in Weights & Biases.")
    wandb_group: str = Field(default="", description="Group of the run in Weights & Biases.")
    wandb_tags: str = Field(default="", description="Tags of the run, comma-separated.")
    learning_curve: bool = Field(
        default=True, description="Draw `learning_curve.png` when the run ends."
    )
    strategic_grams: Grams = Field(
        default="",
        description="Phrases that mark planning tokens (`regex`), or that sentences are compared "
        "with (`semantic`). Empty: the built-in phrases.",
    )

    @model_validator(mode="after")
    def _wandb_has_a_project(self) -> Self:
        if "wandb" in self.trackers and not self.wandb_project:
            raise ValueError("trackers has `wandb`, which needs a project: set wandb_project")
        return self


class ConditionConfig(Section):
    """One learning rule of the comparison; it can override other keys: `training.lr = 1e-4`."""

    # Tables of overrides, by section; checked in `conditions.py`.
    __pydantic_extra__: dict[str, FreeTable] = Field(init=False)  # pyright: ignore[reportIncompatibleVariableOverride]
    model_config = ConfigDict(extra="allow")

    advantage_mode: AdvantageMode = Field(description="As in `[algorithm]`.")
    transform_mode: TransformMode = Field(description="As in `[algorithm]`.")
    name: Annotated[
        str,
        Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9._+-]*)?$"),
        Allowed("letters, digits and . _ + -"),
    ] = Field(default="", description="Its label. Empty: `{advantage_mode}+{transform_mode}`.")

    @property
    def overrides(self) -> dict[str, FreeTable]:
        """The tables that this condition changes, by section."""
        return dict(self.__pydantic_extra__)


class CampaignConfig(Section):
    """Many runs from one file: every condition with every seed. Absent unless set."""

    seeds: Seeds = Field(
        default=(42, 101, 202, 303, 404, 505, 606, 707),
        description="Seeds of the runs of each condition.",
    )
    max_steps: Count = Field(
        default=500, description="Steps of every run, instead of `training.max_steps`."
    )
    parallel: bool = Field(default=False, description="Train several runs at once.")
    max_workers: CountOrZero = Field(
        default=0,
        description="Maximum number of runs at once. 0: one per GPU, or all for a remote service.",
    )
    stagger_seconds: NonNegative = Field(
        default=0.0, description="Seconds between the starts of two runs."
    )
    retries: CountOrZero = Field(
        default=1, description="How often a run that died is restarted before it counts as failed."
    )
    executor: Literal["process", "ray", "slurm"] = Field(
        default="process",
        description="What starts the runs: processes on this machine, a Ray cluster, or Slurm.",
    )
    executor_options: FreeTable = Field(
        default_factory=dict, description="Settings of the executor."
    )
    directory: str = Field(
        default="",
        description="Directory of the campaign. Empty: `campaign_<timestamp>` beside `log_dir`.",
    )
    conditions: Annotated[
        tuple[ConditionConfig, ...], ListFromToml, Allowed("tables [[campaign.conditions]]")
    ] = Field(
        default=(),
        description="The rules to compare. Empty: the five-step ablation from GRPO to MaxRL with "
        "GTPO and SEPA.",
    )


class SqueezeConfig(Section):
    """Analysis of the rank that an adapter needs. Absent unless set."""

    min_variance_retention: PositiveShare = Field(
        default=0.95, description="Share of the update's variance that the rank must keep."
    )
    adapter_path: str = Field(
        default="",
        description="Adapter to analyse without training: a PEFT directory or a `tinker://` path. "
        "Empty: the one that the run trains.",
    )
    source_rank: CountOrZero = Field(
        default=0, description="Rank of the adapter. 0: read from the adapter."
    )
    target_ranks: Ranks = Field(
        default=(), description="Ranks to analyse. Empty: the powers of two below the source rank."
    )
    output_path: str = Field(
        default="", description="Directory for the compressed adapter. Empty: analysis only."
    )
    compress_to: CountOrZero = Field(
        default=0, description="Rank to compress to. 0: the recommended one."
    )
    per_module: bool = Field(
        default=False,
        description="Compress each module to its own rank: the same variance with fewer "
        "parameters.",
    )
    device: Text = Field(default="cpu", description="Device of the analysis, such as `cuda:0`.")
