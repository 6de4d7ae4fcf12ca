"""SGLang's own endpoint, `/generate`."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from retrain_backends.engines.dialect import Asked, Call, IdsOf, completion_of
from retrain_backends.types import Completion


class SglangDialect:
    """`python -m sglang.launch_server`; its log-probs are tempered, but not renormalised."""

    logprobs: ClassVar[Literal["tempered", "raw", "truncated"]] = "tempered"
    groups: ClassVar[bool] = True
    lora: ClassVar[str] = "with --enable-lora, --max-lora-rank and --lora-target-modules all"
    version_path: ClassVar[str] = "/server_info"
    batch_invariance: ClassVar[str] = ""
    checksums: ClassVar[Call | None] = Call("/weights_checker", {"action": "checksum"})

    def completion(self, asked: Asked) -> Call:
        """`POST /generate`."""
        body = {
            "lora_path": asked.adapter,
            "text" if isinstance(asked.prompt, str) else "input_ids": asked.prompt,
            "sampling_params": {
                "n": asked.count,
                "max_new_tokens": asked.max_tokens,
                "temperature": asked.params.temperature,
                "top_p": 1.0,
                "top_k": -1,
                "min_p": 0.0,
                "stop_token_ids": list(asked.params.stop_token_ids),
                "ignore_eos": True,
                "skip_special_tokens": False,
                "sampling_seed": asked.seed,
            },
            "return_logprob": True,
        }
        return Call("/generate", body)

    def completions(self, answer: Any, ids_of: IdsOf) -> list[Completion]:
        """A list of answers, or a single one."""
        del ids_of  # ids are always there
        return [self._completion(part) for part in _parts(answer)]

    def prompt_length(self, answer: Any) -> int | None:
        """`prompt_tokens` of the first completion."""
        return _parts(answer)[0]["meta_info"].get("prompt_tokens")

    def _completion(self, answer: Any) -> Completion:
        facts = answer["meta_info"]
        rows = facts["output_token_logprobs"]
        tokens = answer.get("output_ids") or [row[1] for row in rows]
        return completion_of(tokens, [row[0] for row in rows], facts["finish_reason"]["type"])

    def checksums_in(self, answer: Any) -> Mapping[str, str]:
        """Those of all ranks."""
        return {
            f"{rank}/{name}": checksum
            for rank, part in enumerate(answer["ranks"])
            for name, checksum in part["checksums"].items()
        }

    def loading(self, name: str, directory: str) -> Call:
        """`POST /load_lora_adapter`."""
        return Call("/load_lora_adapter", {"lora_name": name, "lora_path": directory})

    def unloading(self, name: str) -> Call:
        """`POST /unload_lora_adapter`."""
        return Call("/unload_lora_adapter", {"lora_name": name})


def _parts(answer: Any) -> list[Any]:
    return answer if isinstance(answer, list) else [answer]
