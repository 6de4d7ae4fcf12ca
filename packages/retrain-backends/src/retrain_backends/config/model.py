"""The base model, and its low-rank adapter."""

from typing import Annotated

from pydantic import Field

from retrain_backends.config.section import (
    Count,
    FreeTable,
    NonNegative,
    Section,
    Text,
    Url,
    key_in,
)


class ModelConfig(Section):
    """The base model and the rank of its adapter."""

    model: Text = Field(
        default="Qwen/Qwen3-4B-Instruct-2507",
        description="A model of the Hugging Face hub, a local directory, or "
        "`builtin:tiny-arithmetic`, which is included and trains on any CPU.",
    )
    base_url: Annotated[Url, key_in("TINKER_API_KEY")] = Field(
        default="",
        description="Address of a Tinker-compatible service. Empty: the public one. The key is "
        "read from `TINKER_API_KEY`.",
    )
    lora_rank: Count = Field(default=32, description="Rank of the LoRA adapter.")
    chat_template_kwargs: FreeTable = Field(
        default_factory=dict,
        description="Variables of the model's chat template, for example `enable_thinking = false`."
        " Names that the template does not have are refused.",
    )


class LoraConfig(Section):
    """Scale and dropout of the LoRA adapter."""

    alpha: NonNegative = Field(
        default=0.0,
        description="LoRA alpha; updates are scaled by alpha / rank. 0 means twice the rank.",
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0, description="Dropout probability of the adapter's inputs in training."
    )
