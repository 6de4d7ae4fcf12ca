"""The layers of an MLX model, which adapters replace."""

# pyright: reportMissingImports=false

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

import mlx.core as mx
from mlx import nn
from mlx.utils import tree_unflatten
from mlx_lm.tuner.lora import LoRALinear

from retrain_backends.engines.mlx.peft_files import Factors
from retrain_backends.errors import RunError

Adapter: TypeAlias = Mapping[str, Any]
"""Layers with factors, by their path in the model."""

_IN_BLOCK = re.compile(r"(?:^|\.)(\d+\..+)$")


class Layers:
    """The linear layers of a model, with one adapter of several in their place."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._linear = {
            path: module for path, module in model.named_modules() if isinstance(module, nn.Linear)
        }
        self._in_use: Adapter | None = None

    def adapter(self, factors: Mapping[str, Factors]) -> Adapter:
        """Layers with these factors, which the model uses after `use`.

        Raises:
          RunError: the model has no such layer, or one of another size.
        """
        return dict(self._with_factors(name, part) for name, part in factors.items())

    def use(self, adapter: Adapter) -> None:
        """Make the model compute with an adapter, and with no other."""
        if adapter is not self._in_use:
            layers = {**self._linear, **adapter}
            self._model.update_modules(tree_unflatten(list(layers.items())))
            self._in_use = adapter

    def _with_factors(self, name: str, factors: Factors) -> tuple[str, Any]:
        path = self._path(name)
        linear = self._linear[path]
        outputs, inputs = linear.weight.shape
        expected = factors.a.shape[0], factors.b.shape[1]
        if (inputs, outputs) != expected:
            raise RunError(
                f"the adapter changes `{name}` from {expected[0]} to {expected[1]} values, and"
                f" mlx-lm has it from {inputs} to {outputs}; use the engine `pytorch`"
            )
        layer = LoRALinear.from_base(linear, r=factors.a.shape[1], scale=factors.scale)
        layer.lora_a, layer.lora_b = mx.array(factors.a), mx.array(factors.b)
        mx.eval(layer.lora_a, layer.lora_b)
        return path, layer

    def _path(self, name: str) -> str:
        """The path of a layer that transformers calls `name`.

        Models may differ in what comes before the number of the block.
        """
        if name in self._linear:
            return name
        place = _place(name)
        found = [path for path in self._linear if place and _place(path) == place]
        if len(found) != 1:
            raise RunError(
                f"the adapter changes `{name}`, which is no linear layer of this model in mlx-lm;"
                " use the engine `pytorch`"
            )
        return found[0]


def _place(path: str) -> str:
    """The number of the block and what follows it."""
    match = _IN_BLOCK.search(path)
    return match[1] if match else ""
