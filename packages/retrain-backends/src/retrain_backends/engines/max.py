"""Modular's MAX."""

from typing import Any, ClassVar, Literal

from retrain_backends.engines.openai import OpenaiDialect
from retrain_backends.types import SamplingParams


class MaxDialect(OpenaiDialect):
    """`max serve`: one completion a call, with raw log-probs.

    It stops at its model's end of text too, unless `ignore_eos` makes it ignore all stop tokens.
    """

    logprobs: ClassVar[Literal["tempered", "raw", "truncated"]] = "raw"
    groups: ClassVar[bool] = False
    lora: ClassVar[str] = "on a GPU, with --enable-lora"

    def extras(self, params: SamplingParams) -> dict[str, Any]:
        """Keys that are not in OpenAI's own interface."""
        return {
            "stop_token_ids": list(params.stop_token_ids),
            "ignore_eos": not params.stop_token_ids,
            "return_token_ids": True,
        }
