"""How completions are computed: the attention kernel and the format of the key-value cache."""

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from inspect import signature

import torch

from retrain_backends.config import InferenceConfig
from retrain_backends.dotted_names import load_object
from retrain_backends.errors import ConfigError
from retrain_backends.local.attention_kernels import AttentionKernel, attention_kernel
from retrain_backends.local.cache import Store
from retrain_backends.local.devices import gpu_name, is_gpu, parse_devices
from retrain_backends.local.quantization import check_weights, kv_store


@dataclass(frozen=True)
class Decoding:
    """The attention kernel and the format of the key-value cache; None for the defaults."""

    kernel: AttentionKernel | None = None
    store: Store | None = None


DEFAULT = Decoding()
_VARLEN = "torch.nn.attention.varlen"


def decoding_on(device: torch.device, inference: InferenceConfig) -> Decoding:
    """What `[inference]` asks for.

    Raises:
      ConfigError: the device or an installed package does not support it.
      PluginError: a package is missing.
    """
    name = inference.attention_kernel
    for reason in _reasons_against(name, device):
        raise ConfigError(f"inference.attention_kernel: `{name}` {reason}")
    check_weights(inference.dtype)
    return Decoding(attention_kernel(name), kv_store(inference.kv_cache_dtype))


def check(inference: InferenceConfig, devices: str) -> None:
    """Raise the errors of `decoding_on` for the first of `backend.devices`."""
    decoding_on(parse_devices(devices)[0], inference)


def _reasons_against(kernel: str, device: torch.device) -> Iterator[str]:
    """Why a kernel does not run on a device, and what does."""
    if kernel in ("flash", "cutlass") and not is_gpu(device):
        yield ("needs an NVIDIA GPU, and this run samples on the CPU; use `default` or `triton`")
    elif kernel == "flash":
        yield from _against_flash(device)
    elif kernel == "triton":
        yield from _against_triton(device)


def _against_flash(device: torch.device) -> Iterator[str]:
    capability = torch.cuda.get_device_capability(device)
    if capability < (8, 0):
        yield (
            f"needs a GPU of compute capability 8.0 or more, and {gpu_name(device)} has"
            f" {capability[0]}.{capability[1]}; use `default`, `triton` or `cutlass`"
        )
    found = find_spec(_VARLEN) is not None
    if not found or "scale" not in signature(load_object(f"{_VARLEN}:varlen_attn")).parameters:
        yield (
            f"needs PyTorch 2.11 or newer, and {torch.__version__} is installed; use `default`,"
            " `triton` or `cutlass`"
        )


def _against_triton(device: torch.device) -> Iterator[str]:
    if is_gpu(device) and find_spec("triton") is None:
        yield "needs the package `triton`, which is not installed; use `default` or `cutlass`"
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if not is_gpu(device) and shutil.which(compiler) is None:
        yield (
            f"is compiled by a C++ compiler on the CPU, and there is no `{compiler}`: install one,"
            " name it in the environment variable CXX, or use `default`"
        )
