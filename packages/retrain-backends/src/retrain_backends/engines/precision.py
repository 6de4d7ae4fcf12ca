"""Attention kernels, weights and key-value caches of vLLM and SGLang, by their own arguments."""

from collections.abc import Collection, Mapping

from retrain_backends.config import InferenceConfig
from retrain_backends.errors import ConfigError

# By engine and key of `[inference]`: the argument for each value that the engine has.
_ARGUMENTS: Mapping[str, Mapping[str, Mapping[str, tuple[str, str]]]] = {
    "vllm": {
        "attention_kernel": {
            "flash": ("attention_backend", "FLASH_ATTN"),
            "triton": ("attention_backend", "TRITON_ATTN"),
        },
        "dtype": {
            "bf16": ("dtype", "bfloat16"),
            "fp8": ("quantization", "fp8_per_channel"),
            "fp4": ("quantization", "mxfp4"),
        },
        "kv_cache_dtype": {
            "bf16": ("kv_cache_dtype", "bfloat16"),
            "fp8": ("kv_cache_dtype", "fp8"),
            "int8": ("kv_cache_dtype", "int8_per_token_head"),
        },
    },
    "sglang": {
        "attention_kernel": {
            "flash": ("attention_backend", "fa3"),
            "triton": ("attention_backend", "triton"),
        },
        "dtype": {"bf16": ("dtype", "bfloat16"), "fp8": ("quantization", "fp8")},
        "kv_cache_dtype": {
            "bf16": ("kv_cache_dtype", "bf16"),
            "fp8": ("kv_cache_dtype", "fp8_e4m3"),
        },
    },
}
# What of this they have on a CPU.
_ON_CPU: Mapping[str, Mapping[str, Collection[str]]] = {
    "vllm": {"attention_kernel": (), "dtype": ("bf16",), "kv_cache_dtype": ("fp8",)},
    "sglang": {"attention_kernel": (), "dtype": ("bf16",), "kv_cache_dtype": ()},
}


def sampling_arguments(engine: str, inference: InferenceConfig, *, on_cpu: bool) -> dict[str, str]:
    """The arguments for the attention kernel, the weights and the key-value cache.

    Args:
      engine: `vllm` or `sglang`; `inference.engine` may be a plugin that is based on it.
      inference: `[inference]`.
      on_cpu: whether the engine is on the CPU; its weights are then in float32 by default.

    Raises:
      ConfigError: names every setting that the engine does not have.
    """
    arguments = {"dtype": "float32"} if on_cpu else {}
    problems = []
    for key, known in _ARGUMENTS[engine].items():
        value, default = getattr(inference, key), InferenceConfig.model_fields[key].default
        allowed = [name for name in known if not on_cpu or name in _ON_CPU[engine][key]]
        if value in allowed:
            name, argument = known[value]
            arguments[name] = argument
        elif value != default:
            instead = " or ".join(f"`{name}`" for name in [default, *allowed])
            place = " on a CPU" if on_cpu else ""
            problems.append(f"inference.{key}: `{engine}` has no `{value}`{place}; use {instead}")
    asked = (engine, inference.attention_kernel, inference.kv_cache_dtype)
    if asked == ("vllm", "flash", "int8"):
        problems.append(
            "inference.kv_cache_dtype: `int8` is read by vLLM's attention kernel `triton` only; set"
            ' inference.attention_kernel = "triton"'
        )
    if problems:
        raise ConfigError(*problems)
    return arguments
