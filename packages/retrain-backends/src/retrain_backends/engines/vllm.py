"""vLLM's server."""

from typing import Any, ClassVar

from retrain_backends.engines.openai import OpenaiDialect
from retrain_backends.types import SamplingParams


class VllmDialect(OpenaiDialect):
    """`vllm serve` with `--logprobs-mode processed_logprobs`.

    Without that option its log-probs are raw. With `ignore_eos` it stops at our stop tokens only.
    """

    lora: ClassVar[str] = (
        "with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 and --enable-lora --max-lora-rank"
    )

    def _extras(self, params: SamplingParams) -> dict[str, Any]:
        return {
            "logprobs": 0,  # of the sampled token alone
            "top_k": -1,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "stop_token_ids": list(params.stop_token_ids),
            "ignore_eos": True,
            "skip_special_tokens": False,
            "return_token_ids": True,
        }
