"""The data, the environment and the reward."""

from typing import Annotated, Literal

from pydantic import Field

from retrain_backends.config.section import (
    Allowed,
    Count,
    CountOrZero,
    FreeTable,
    NameOrPlugin,
    Section,
    Share,
    Text,
    Url,
    key_in,
)

DEFAULT_TEMPLATE = "{question}\n\nReason step by step, and put your final answer in \\boxed{}."

# TOML reads "\boxed" between double quotes as a backspace, so control characters other than tab
# and newline are refused.
_TEMPLATE = r"^[^\x00-\x08\x0b-\x1f]*\{question\}[^\x00-\x08\x0b-\x1f]*$"


class DataConfig(Section):
    """Where questions and their reference answers come from."""

    source: Annotated[Text, NameOrPlugin("source", ("math", "arithmetic", "jsonl", "hf"))] = Field(
        default="math",
        description="`math` is the MATH data set, `arithmetic` an endless seeded generator, "
        "`jsonl` your own file, `hf` a data set of the Hugging Face hub or on disk.",
    )
    path: str = Field(
        default="",
        description="File or directory (`jsonl`, `math`, `hf`), or the hub's id (`hf`).",
    )
    split: Text = Field(default="train", description="Split of the data set.")
    question_field: str = Field(
        default="", description="Field with the question. Empty: the default of the source."
    )
    answer_field: str = Field(
        default="", description="Field with the answer. Empty: the default of the source."
    )
    prompt_template: Annotated[
        str,
        Field(pattern=_TEMPLATE),
        Allowed(
            "text that contains {question}; in TOML write '\\boxed' between single quotes, "
            'because "\\b" between double quotes is a backspace'
        ),
    ] = Field(
        default=DEFAULT_TEMPLATE,
        description="The prompt, before the model's chat template. `{question}` is replaced by "
        "the question; other braces are plain text.",
    )
    shuffle: bool = Field(
        default=True, description="Use a new seeded order in every epoch, not that of the file."
    )


class EnvironmentConfig(Section):
    """A multi-turn environment instead of single answers."""

    provider: Literal["", "verifiers"] = Field(
        default="", description="Provider of the environment. Empty: single answers."
    )
    id: str = Field(default="", description="Name of the environment at its provider.")
    args: FreeTable = Field(
        default_factory=dict, description="Arguments for the environment's constructor."
    )
    max_turns: Annotated[int, Field(ge=-1)] = Field(
        default=-1, description="Maximum turns of an episode. -1: the environment's own limit."
    )
    auto_install: bool = Field(
        default=False, description="Install the environment's package if it is missing."
    )


class RewardConfig(Section):
    """The reward of a completion."""

    type: Annotated[Text, NameOrPlugin("reward", ("match", "math", "judge", "custom"))] = Field(
        default="match",
        description="`match` compares the boxed answer with the reference as text, `math` as "
        "mathematics; `judge` queries a model; `custom` calls your function.",
    )
    judge_model: str = Field(default="", description="Model that judges (`judge`).")
    judge_url: Annotated[Url, key_in("OPENAI_API_KEY")] = Field(
        default="",
        description="OpenAI-compatible endpoint of the judge. Empty: `OPENAI_BASE_URL`, else "
        "OpenAI's own. The key is read from `OPENAI_API_KEY`.",
    )
    custom_module: str = Field(default="", description="Python module of your function (`custom`).")
    custom_function: Text = Field(
        default="score", description="Name of the function in that module (`custom`)."
    )
    timeout_s: Annotated[float, Field(gt=0)] = Field(
        default=10.0,
        description="Time limit for judging one completion, after which it has no verdict "
        "(`math`, `judge` with its retries, `custom`).",
    )
    max_failure_rate: Share = Field(
        default=0.2,
        description="The run stops if a larger share of a step's completions has no verdict.",
    )
    workers: CountOrZero = Field(
        default=0,
        description="Number of judging processes (`math`, `custom`; 0: one per core), or of "
        "concurrent requests (`judge`; 0: 16).",
    )
    memory_mb: Count = Field(
        default=1024,
        description="Memory limit of a judging process, beyond what it uses after loading "
        "(`math`, `custom`; enforced on Linux).",
    )
