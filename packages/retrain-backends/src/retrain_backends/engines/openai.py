"""The completions endpoint that most servers have, with token ids in and out."""

import re
from typing import Any, ClassVar, Literal

from retrain_backends.engines.dialect import Call, completion_of
from retrain_backends.types import Completion, Request, SamplingParams

_TOKEN_ID = re.compile(r"token_id:(\d+)")


class OpenaiDialect:
    """Any server with `/v1/completions` that takes token ids and returns them.

    Ids are read from `token_ids`, or from token texts of the form `token_id:123`. Adapters are
    loaded as by vLLM.
    """

    logprobs: ClassVar[Literal["tempered", "raw", "truncated"]] = "tempered"
    groups: ClassVar[bool] = True
    lora: ClassVar[str] = "with LoRA and with adapters that can be loaded at run time"
    version_path: ClassVar[str] = "/version"

    def completion(
        self, request: Request, count: int, params: SamplingParams, adapter: str, seed: int
    ) -> Call:
        """`POST /v1/completions`."""
        return Call(
            "/v1/completions",
            {
                "model": adapter,
                "prompt": request.prompt_T.tolist(),
                "n": count,
                "max_tokens": request.max_tokens,
                "temperature": params.temperature,
                "top_p": 1.0,
                "seed": seed,
                "logprobs": 1,
                **self._extras(params),
            },
        )

    def _extras(self, params: SamplingParams) -> dict[str, Any]:
        """Keys that are not in OpenAI's own interface."""
        return {
            "stop_token_ids": list(params.stop_token_ids),
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
        }

    def completions(self, answer: Any) -> list[Completion]:
        """The `choices`, in the order of their indices."""
        choices = sorted(answer["choices"], key=lambda choice: choice["index"])
        return [self._completion(choice) for choice in choices]

    def _completion(self, choice: Any) -> Completion:
        logprobs = choice.get("logprobs") or {}
        tokens = choice.get("token_ids")
        if tokens is None:
            tokens = _ids_in(logprobs.get("tokens") or ())
        return completion_of(tokens, logprobs.get("token_logprobs"), choice["finish_reason"])

    def loading(self, name: str, directory: str) -> Call:
        """`POST /v1/load_lora_adapter`."""
        return Call("/v1/load_lora_adapter", {"lora_name": name, "lora_path": directory})

    def unloading(self, name: str) -> Call:
        """`POST /v1/unload_lora_adapter`."""
        return Call("/v1/unload_lora_adapter", {"lora_name": name})


def _ids_in(texts: Any) -> list[int]:
    found = [_TOKEN_ID.fullmatch(text) for text in texts]
    if not all(found):
        raise ValueError("texts instead of token ids")
    return [int(match[1]) for match in found if match]
