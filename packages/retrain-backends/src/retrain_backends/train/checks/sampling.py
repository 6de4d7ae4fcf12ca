"""How the completions of a run are sampled: the engine, its precision, the commands of servers."""

from collections.abc import Iterator

from retrain_backends.config import RunConfig
from retrain_backends.dotted_names import load_object
from retrain_backends.engines.launch import STARTED, server_commands, trains_on_cpu
from retrain_backends.errors import ConfigError
from retrain_backends.tokenizer import loadable_name

_KERNELS = {
    "default": "`scaled_dot_product_attention` of PyTorch, which chooses a kernel",
    "flash": "FlashAttention",
    "triton": "FlexAttention, compiled before the first step",
    "cutlass": "the memory-efficient kernel of PyTorch",
}
_CACHES = {
    "auto": "in the format of the activations",
    "bf16": "bfloat16, converted when it is read",
}


def commands(config: RunConfig) -> Iterator[str]:
    """The command for each server of `inference.url`.

    Raises:
      ConfigError: no command is known, or a server does not have a setting.
    """
    model, rank = loadable_name(config.model.model), config.model.lora_rank
    on_cpu = trains_on_cpu(config.backend.devices)
    return map(str, server_commands(model, rank, config.inference, on_cpu=on_cpu))


def sampling(config: RunConfig) -> Iterator[tuple[str, str]]:
    """Rows for `retrain explain`; none if the backend samples itself."""
    inference = config.inference
    if config.backend.backend != "local":
        return
    if inference.engine == "pytorch":
        yield "sampling", "PyTorch, in the process that trains"
        kernel = inference.attention_kernel
        yield "attention kernel", _KERNELS.get(kernel, f"`{kernel}`")
        yield "weights", _weights(config)
        cache = inference.kv_cache_dtype
        yield "key-value cache", _CACHES.get(cache, f"{cache}, a scale for each vector, by torchao")
        return
    if inference.url:
        yield "sampling", f"servers, `{inference.engine}`"
    if inference.url and inference.engine in STARTED:
        try:
            for index, command in enumerate(commands(config)):
                yield "" if index else "started with", command
        except ConfigError:  # reported among the problems
            return


def refuse_unsupported(config: RunConfig) -> None:
    """Check the settings of `pytorch` that depend on the device and on installed packages.

    Raises:
      ConfigError, PluginError: as a run would.
    """
    inference = config.inference
    chosen = (inference.attention_kernel, inference.dtype, inference.kv_cache_dtype)
    defaults = ("default", "auto", "auto")
    if config.backend.backend == "local" and inference.engine == "pytorch" and chosen != defaults:
        load_object("retrain_backends.local.decoding:check")(inference, config.backend.devices)


def _weights(config: RunConfig) -> str:
    on_cpu = config.backend.devices.split(",")[0].strip() == "cpu"
    auto = "float32" if on_cpu else "bfloat16 (float32 without a GPU)"
    name = config.inference.dtype
    if name == "auto":
        return f"{auto}, also in training"
    if name == "bf16":
        return "bfloat16, also in training"
    return f"{name}, in a copy for the sampler, by torchao; {auto} in training"
