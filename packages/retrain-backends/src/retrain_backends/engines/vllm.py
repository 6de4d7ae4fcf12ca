"""vLLM: its server, and the arguments of its engine."""

import logging
from collections.abc import Sequence
from typing import Any, ClassVar

from retrain_backends.config import InferenceConfig
from retrain_backends.engines.openai import OpenaiDialect
from retrain_backends.engines.precision import sampling_arguments
from retrain_backends.errors import ConfigError
from retrain_backends.types import SamplingParams

log = logging.getLogger(__name__)

_OLDEST, _NEWEST = (0, 32), (0, 33)  # releases whose interface is the one that is used
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # that max_lora_rank takes


class VllmDialect(OpenaiDialect):
    """`vllm serve` with `--logprobs-mode processed_logprobs`.

    Without that option its log-probs are raw. With `ignore_eos` it stops at our stop tokens only.
    """

    plan: ClassVar[str] = "retrain_backends.local.vllm_plan:plan_text"
    in_process: ClassVar[str] = "retrain_backends.local.vllm_engine:VllmEngine.from_config"
    lora: ClassVar[str] = (
        "with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 and --enable-lora --max-lora-rank"
    )

    batch_invariance: ClassVar[str] = (
        "with VLLM_BATCH_INVARIANT=1 on a GPU of compute capability 8.0 or above, or on the CPU"
        " without it"
    )

    def extras(self, params: SamplingParams) -> dict[str, Any]:
        """Keys that are not in OpenAI's own interface."""
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


def engine_arguments(
    rank: int, inference: InferenceConfig, *, on_cpu: bool
) -> dict[str, str | int | bool]:
    """Arguments of vLLM's engine, by their names for `vllm.LLM`; the server's flags are the same.

    Args:
      rank: of the adapters.
      inference: `[inference]`.
      on_cpu: whether the trainer is on the CPU, and so computes in float32.

    Raises:
      ConfigError: vLLM has no room for adapters of that rank, or does not have a setting.
    """
    accepted = next((known for known in _RANKS if known >= rank), None)
    if accepted is None:
        raise ConfigError(f"model.lora_rank: `{rank}` is above what vLLM takes, {_RANKS[-1]}")
    arguments: dict[str, str | int | bool] = {
        "max_lora_rank": accepted,
        "max_loras": 2,  # that of the step before stays loaded until the next one
        "logprobs_mode": "processed_logprobs",
        "enable_lora": True,
    }
    if on_cpu:
        # Its sampler for the CPU fails with seeds when a prompt is prefilled in chunks.
        arguments |= {"enforce_eager": True, "enable_chunked_prefill": False}
    if not inference.prefix_caching:
        arguments |= {"enable_prefix_caching": False}
    return arguments | sampling_arguments("vllm", inference, on_cpu=on_cpu)


def batch_invariance(inference: InferenceConfig, on_cpu: bool) -> dict[str, str]:
    """The environment variable with which tokens do not depend on the batch, where it is needed.

    Its kernels are for GPUs.
    """
    needed = inference.determinism == "tokens" and not on_cpu
    return {"VLLM_BATCH_INVARIANT": "1"} if needed else {}


def check_release(release: Sequence[int | str]) -> None:
    """Refuse a vLLM that is too old, and warn of one that is newer than those that were tried.

    Raises:
      ConfigError: it is too old.
    """
    installed, oldest, newest = (_dotted(parts) for parts in (release, _OLDEST, _NEWEST))
    if tuple(release[:2]) < _OLDEST:
        raise ConfigError(
            f"inference.engine: `vllm` without inference.url needs vLLM {oldest} or newer, and"
            f" {installed} is installed: pip install 'retrain-backends[vllm]'"
        )
    if tuple(release[:2]) > _NEWEST:
        log.warning("vLLM %s has not been tried; %s to %s were", installed, oldest, newest)


def _dotted(release: Sequence[int | str]) -> str:
    return ".".join(map(str, release))
