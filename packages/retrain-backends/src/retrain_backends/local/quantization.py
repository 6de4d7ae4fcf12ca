"""Weights and key-value caches in lower precision, by torchao."""

import re
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

from retrain_backends.dotted_names import load_object, require
from retrain_backends.errors import ConfigError
from retrain_backends.local.base_model import BaseModel
from retrain_backends.local.cache import Store
from retrain_backends.local.devices import is_gpu

WEIGHTS = ("fp8", "fp4")  # values of `inference.dtype` for which the sampler has weights of its own
_OLDEST = (0, 18)
_BLOCK = 16  # sizes of matrices that are multiplied in low precision are multiples of it


def kv_store(name: str) -> Store | None:
    """The format of `inference.kv_cache_dtype`; None for `auto`.

    In `fp8` and `int8` each key and value vector has a scale of its own.

    Raises:
      ConfigError, PluginError: torchao is too old, or missing.
    """
    if name == "auto":
        return None
    if name == "bf16":
        return lambda x: (x.to(torch.bfloat16),)
    _require_torchao(f"inference.kv_cache_dtype: `{name}`")
    per_row: Any = _load("PerRow")()
    kind: Any = _load("Float8Tensor" if name == "fp8" else "Int8Tensor")
    # Without a lower bound, the scale of a vector of zeros is 0 in fp8.
    bound = {"hp_value_lb": 1e-12} if name == "fp8" else {}

    def store(x: Tensor) -> tuple[Tensor, ...]:
        quantized = kind.from_hp(x, granularity=per_row, **bound)
        return quantized.qdata, quantized.scale

    return store


def check_weights(dtype: str) -> None:
    """Raise an error if the weights cannot be in this format of `inference.dtype`."""
    if dtype in WEIGHTS:
        _require_torchao(f"inference.dtype: `{dtype}`")


def quantize(base: BaseModel, dtype: str) -> None:
    """Replace the weights of the linear layers, except the head, by ones in `fp8` or `fp4`.

    Products are computed in that precision where the GPU can, and else in that of the activations.

    Raises:
      ConfigError: a layer has a size for which the format is not defined.
    """
    config, blocks = _weight_config(dtype, base.device)
    for projection in base.projections:
        rows, columns = projection.weight.shape
        if blocks and (rows % _BLOCK or columns % _BLOCK):
            raise ConfigError(
                f"inference.dtype: `{dtype}` needs layers whose sizes are multiples of {_BLOCK},"
                f" and `{projection.names[0]}` of `{base.name}` has {rows} x {columns}; use `auto`"
            )
    base.replace_weights(_quantizer(config))


def _weight_config(dtype: str, device: torch.device) -> tuple[Any, bool]:
    """The configuration for torchao, and whether sizes must be multiples of `_BLOCK`."""
    capability = _capability(device)
    if dtype == "fp4":
        name = "NVFP4WeightOnlyConfig"
        if capability >= (10, 0):
            name = "NVFP4DynamicActivationNVFP4WeightConfig"
        return _load(name, "torchao.prototype.mx_formats")(), True
    if capability >= (8, 9):
        per_row: Any = _load("PerRow")()
        return _load("Float8DynamicActivationFloat8WeightConfig")(granularity=per_row), True
    return _load("Float8WeightOnlyConfig")(), False


def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device) if is_gpu(device) else (0, 0)


def _quantizer(config: Any) -> Callable[[Tensor], Tensor]:
    quantize_: Any = _load("quantize_")

    def quantized(weight: Tensor) -> Tensor:
        layer = nn.Linear(1, 1, bias=False)
        layer.weight = nn.Parameter(weight, requires_grad=False)
        quantize_(layer, config)
        return layer.weight

    return quantized


def _require_torchao(where: str) -> None:
    require("torchao", where)
    installed = version("torchao")
    found = re.match(r"(\d+)\.(\d+)", installed)
    if found is None or tuple(map(int, found.groups())) < _OLDEST:
        raise ConfigError(
            f"{where} needs torchao {'.'.join(map(str, _OLDEST))} or newer, and {installed} is"
            " installed: pip install -U 'retrain-backends[quantized]'"
        )


def _load(name: str, module: str = "torchao.quantization") -> Any:
    return load_object(f"{module}:{name}")
