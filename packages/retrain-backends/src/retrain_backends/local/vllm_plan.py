"""What vLLM gets of the devices of a run, before it is started."""

from dataclasses import dataclass
from typing import Any

import torch

from retrain_backends.config import PolicySettings, read_backend_options
from retrain_backends.dotted_names import require
from retrain_backends.engines.gpu_sharing import Needs, Sharing, share
from retrain_backends.engines.vllm import engine_arguments
from retrain_backends.local.devices import is_gpu, memory_of, parse_devices, pick_dtype
from retrain_backends.local.options import LocalOptions
from retrain_backends.local.sizes import TRAINED, ModelSizes, model_sizes
from retrain_backends.memory import size_text
from retrain_backends.tokenizer import resolve_model

_ALONE = 0.9  # share of a GPU that is vLLM's own
_LONGER = 2  # times the longest known prompt, which may not be the longest of the run
_CHECKPOINTED = 8  # times less is kept with gradient checkpointing, at least
_BLOCKS = 1.25  # of the cache on a CPU: completions end within blocks, and prompts are kept


@dataclass(frozen=True)
class VllmPlan:
    """How vLLM is started in this process.

    Args:
      model: a directory or an id of the hub.
      arguments: of `vllm.LLM`.
      sleeps: whether it sleeps while the trainer trains.
      text: one line about it.
    """

    model: str
    arguments: dict[str, Any]
    sleeps: bool
    text: str


def plan_of(settings: PolicySettings) -> VllmPlan:
    """The plan for a policy; loads no model.

    Raises:
      ConfigError: the GPU has no room for vLLM, or vLLM none for adapters of that rank.
    """
    device, train_on = parse_devices(settings.backend.devices)
    model = resolve_model(settings.model.model)
    sizes = model_sizes(model, settings.model.model)
    dtype = pick_dtype(settings.inference.dtype, device)
    needs = _needs(settings, sizes, dtype)
    arguments = {
        **engine_arguments(settings.model.lora_rank, settings.inference, on_cpu=not is_gpu(device)),
        "dtype": str(dtype).removeprefix("torch."),
        "max_model_len": _longest(settings, sizes),
        "seed": settings.seed % 2**32,
        "skip_tokenizer_init": True,
        "use_tqdm_on_load": False,
    }
    if not is_gpu(device):
        cache = int(_BLOCKS * needs.completions * needs.completion)
        arguments |= {"kv_cache_memory_bytes": cache}
        text = f"vLLM in this process, with a key-value cache of {size_text(cache)}"
        return VllmPlan(model, arguments, sleeps=False, text=text)
    sharing = _sharing(needs, device, train_on)
    arguments |= {
        "device_ids": [device.index or 0],
        "gpu_memory_utilization": round(sharing.utilization, 3),
        "enable_sleep_mode": sharing.sleeps,
    }
    text = (
        f"vLLM in this process {'sleeps' if sharing.sleeps else 'stays awake'} while training:"
        f" {sharing.reason}"
    )
    return VllmPlan(model, arguments, sharing.sleeps, text)


def plan_text(settings: PolicySettings) -> str:
    """One line about the plan, for `retrain explain`.

    Raises:
      ConfigError: as `plan_of`.
      PluginError: vLLM is not installed.
    """
    require("vllm", "inference.engine: `vllm`")
    return plan_of(settings).text


def _sharing(needs: Needs, device: torch.device, train_on: torch.device) -> Sharing:
    if device != train_on:
        return Sharing(sleeps=False, utilization=_ALONE, reason=f"{device} is its own")
    return share(needs, memory_of(device) or 0, str(device))


def _needs(settings: PolicySettings, sizes: ModelSizes, dtype: torch.dtype) -> Needs:
    options = read_backend_options(LocalOptions, settings.backend.options)
    weights = sizes.parameters * dtype.itemsize
    kept = sizes.kept // _CHECKPOINTED if options.gradient_checkpointing else sizes.kept
    return Needs(
        resident=weights + TRAINED * sizes.adapter * settings.model.lora_rank,
        step=options.microbatch_tokens * kept * dtype.itemsize,
        weights=weights,
        completion=_longest(settings, sizes) * sizes.cached * dtype.itemsize,
        completions=settings.completions_a_step,
    )


def _longest(settings: PolicySettings, sizes: ModelSizes) -> int:
    """Tokens of the longest text; prompts that come later may be longer than those known now."""
    known = _LONGER * settings.longest_prompt + settings.max_tokens
    return min(known, sizes.context.tokens) if sizes.context else known
