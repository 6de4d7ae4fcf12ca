"""The completions endpoint that most servers have, with token ids in and out."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from retrain_backends.engines.dialect import Asked, Call, IdsOf, completion_of
from retrain_backends.types import Completion, SamplingParams

_TOKEN_ID = re.compile(r"token_id:(\d+)")


class OpenaiDialect:
    """Any server with `/v1/completions` that returns tokens with their log-probs.

    Ids are read from `token_ids`, or from token texts of the form `token_id:123`; other texts are
    replaced by their ids where that is exact. Adapters are loaded as by vLLM.
    """

    logprobs: ClassVar[Literal["tempered", "raw", "truncated"]] = "tempered"
    groups: ClassVar[bool] = True
    lora: ClassVar[str] = "with LoRA and with adapters that can be loaded at run time"
    version_path: ClassVar[str] = "/version"
    batch_invariance: ClassVar[str] = ""
    checksums: ClassVar[Call | None] = Call("/weight_checker", {"action": "checksum"})

    def completion(self, asked: Asked) -> Call:
        """`POST /v1/completions`."""
        return Call(
            "/v1/completions",
            {
                "model": asked.adapter,
                "prompt": asked.prompt,
                "n": asked.count,
                "max_tokens": asked.max_tokens,
                "temperature": asked.params.temperature,
                "top_p": 1.0,
                "seed": asked.seed,
                "logprobs": 1,
                **self.extras(asked.params),
            },
        )

    def extras(self, params: SamplingParams) -> dict[str, Any]:
        """Keys that are not in OpenAI's own interface."""
        return {
            "stop_token_ids": list(params.stop_token_ids),
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
        }

    def completions(self, answer: Any, ids_of: IdsOf) -> list[Completion]:
        """The `choices`, in the order of their indices."""
        choices = sorted(answer["choices"], key=lambda choice: choice["index"])
        return [self._completion(choice, ids_of) for choice in choices]

    def _completion(self, choice: Any, ids_of: IdsOf) -> Completion:
        logprobs = choice.get("logprobs") or {}
        tokens = choice.get("token_ids")
        if tokens is None:
            texts = logprobs.get("tokens") or ()
            found = [_TOKEN_ID.fullmatch(text) for text in texts]
            tokens = [int(match[1]) for match in found if match] if all(found) else ids_of(texts)
        return completion_of(tokens, logprobs.get("token_logprobs"), choice["finish_reason"])

    def prompt_length(self, answer: Any) -> int | None:
        """`usage.prompt_tokens`."""
        return (answer.get("usage") or {}).get("prompt_tokens")

    def checksums_in(self, answer: Any) -> Mapping[str, str]:
        """Those of all workers."""
        return answer["checksums"]

    def loading(self, name: str, directory: str) -> Call:
        """`POST /v1/load_lora_adapter`."""
        return Call("/v1/load_lora_adapter", {"lora_name": name, "lora_path": directory})

    def unloading(self, name: str) -> Call:
        """`POST /v1/unload_lora_adapter`."""
        return Call("/v1/unload_lora_adapter", {"lora_name": name})
