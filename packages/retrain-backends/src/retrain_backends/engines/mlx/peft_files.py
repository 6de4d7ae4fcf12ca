"""Reads the factors of a PEFT adapter as MLX has them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

_PREFIX, _A, _B = "base_model.model.", ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True)
class Factors:
    """What a layer adds to its output: `scale * (x @ a) @ b`; a (inputs, rank), b (rank, outputs).

    PEFT stores both transposed.
    """

    a: npt.NDArray[np.float32]
    b: npt.NDArray[np.float32]
    scale: float


def read_factors(directory: Path) -> Mapping[str, Factors]:
    """The factors of an adapter that this package has written, by the layer's name."""
    config = json.loads((directory / "adapter_config.json").read_text("utf-8"))
    tensors = load_file(directory / "adapter_model.safetensors")
    names = [key.removesuffix(_A) for key in tensors if key.endswith(_A)]
    scale = config["lora_alpha"] / config["r"]
    return {
        name.removeprefix(_PREFIX): Factors(tensors[name + _A].T, tensors[name + _B].T, scale)
        for name in names
    }
