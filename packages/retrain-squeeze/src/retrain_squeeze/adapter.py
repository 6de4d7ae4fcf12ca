"""Read and check the files of a LoRA adapter in a PEFT directory."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrain_squeeze.errors import AdapterError
from retrain_squeeze.file_names import CONFIG_FILE, PICKLE_FILE, WEIGHTS_FILE
from retrain_squeeze.peft_config import ConfigFile, read_config
from retrain_squeeze.tensors import Matrix, Tensor, TensorFile, open_tensors

# `lora_A` and `lora_B` of linear and convolution layers, `lora_embedding_A` and `..._B` of
# embeddings; some programs keep the adapter's name (`default`) in them.
_FACTOR = re.compile(
    r"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?:embedding_)?(?P<factor>[AB])"
    r"(?:\.(?!bias$)[^.]+)?(?:\.weight)?"
)
_BIAS = re.compile(r".+\.lora_[AB](?:\.[^.]+)?\.bias")
_PART_OF_LORA = re.compile(r"(?:^|\.)lora_")


@dataclass(frozen=True)
class LoraModule:
    """The two factors of one module: its update is `scale * B A`.

    `name` is that of the module in the base model. `a` has shape (rank, in, ...) and `b` shape
    (out, rank, ...); the factors of convolutions have more dimensions.
    """

    name: str
    a: Tensor
    b: Tensor
    scale: float

    @property
    def rank(self) -> int:
        """The number of columns of B and of rows of A."""
        return self.a.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in) of the update as a matrix; the kernel of a convolution counts as inputs."""
        return self.b.shape[0], math.prod(self.a.shape[1:])


@dataclass(frozen=True)
class AdapterFiles:
    """The files of an adapter, checked to be complete and consistent.

    `others` are the tensors that are not factors, such as biases.
    """

    path: Path
    config: ConfigFile
    file: TensorFile
    modules: tuple[LoraModule, ...]
    others: tuple[Tensor, ...]

    @property
    def rank(self) -> int:
        """The highest rank of a module."""
        return max(module.rank for module in self.modules)

    def stored(self, module: LoraModule) -> tuple[Matrix, Matrix]:
        """The stored factors of a module, as matrices (rank, in) and (out, rank)."""
        return self.file.stored(module.a), self.file.stored(module.b)


def read_adapter(path: Path) -> AdapterFiles:
    """Read a PEFT directory's configuration and the header of its weights.

    Raises:
      AdapterError: a file is missing or damaged, the two files disagree, or the adapter is not
        plain LoRA.
    """
    _check_directory(path)
    config = read_config(path / CONFIG_FILE)
    file = open_tensors(path / WEIGHTS_FILE)
    factors, others = _split_tensors(file)
    modules = tuple(
        _module(file.path, config, name, *pair) for name, *pair in _pairs(factors, file)
    )
    if not modules:
        raise AdapterError(f"{file.path}: has no lora_A and lora_B; name a LoRA adapter")
    return AdapterFiles(path, config, file, modules, tuple(others))


def check_finite(adapter: AdapterFiles, module: LoraModule, *computed: NDArray[Any]) -> None:
    """Refuse a module if a result that was computed from its factors is not finite."""
    if not all(np.isfinite(values).all() for values in computed):
        raise AdapterError(
            f"{adapter.file.path}: the factors of `{module.name}` contain NaN or infinity; "
            "use an earlier checkpoint of the adapter"
        )


def _check_directory(path: Path) -> None:
    if not path.is_dir():
        kind = "is a file" if path.exists() else "no such directory"
        raise AdapterError(f"{path}: {kind}; name the directory with {WEIGHTS_FILE}")
    for file in (path / CONFIG_FILE, path / WEIGHTS_FILE):
        if file.exists() and not file.is_file():
            raise AdapterError(f"{file}: is not a regular file; save the adapter again")
    if (path / WEIGHTS_FILE).exists():
        return
    if (path / PICKLE_FILE).exists():
        raise AdapterError(
            f"{path / PICKLE_FILE}: is a pickle file, which can run any code when it is read; "
            "if you trust it, load the adapter with PEFT and save it as safetensors"
        )
    raise AdapterError(f"{path}: has no {WEIGHTS_FILE}; name the directory of a PEFT adapter")


_Factors = dict[str, dict[str, Tensor]]


def _split_tensors(file: TensorFile) -> tuple[_Factors, list[Tensor]]:
    """Factors by module and letter, and the tensors that are not factors."""
    factors: _Factors = {}
    others: list[Tensor] = []
    for tensor in file.tensors:
        match = _FACTOR.fullmatch(tensor.name)
        if match is None:
            _check_other(file.path, tensor)
            others.append(tensor)
            continue
        known = factors.setdefault(match["module"], {}).setdefault(match["factor"], tensor)
        if known is not tensor:
            raise AdapterError(
                f"{file.path}: `{known.name}` and `{tensor.name}` are factors of one module; "
                "save a single adapter"
            )
    return factors, others


def _check_other(path: Path, tensor: Tensor) -> None:
    if _PART_OF_LORA.search(tensor.name) and not _BIAS.fullmatch(tensor.name):
        raise AdapterError(
            f"{path}: `{tensor.name}` belongs to a variant of LoRA whose update is more than B A; "
            "only plain LoRA can be squeezed"
        )


def _pairs(factors: _Factors, file: TensorFile) -> Iterable[tuple[str, Tensor, Tensor]]:
    for name, found in factors.items():
        if len(found) < 2:
            (present,) = found.values()
            missing = "B" if "A" in found else "A"
            raise AdapterError(
                f"{file.path}: `{present.name}` has no lora_{missing}; save the adapter again"
            )
        yield name, found["A"], found["B"]


def _module(path: Path, config: ConfigFile, name: str, a: Tensor, b: Tensor) -> LoraModule:
    for tensor in (a, b):
        if not tensor.readable:
            raise AdapterError(
                f"{path}: `{tensor.name}` is stored as {tensor.dtype}; "
                "save it as float32, float16 or bfloat16"
            )
        if len(tensor.shape) < 2 or not tensor.size:
            raise AdapterError(
                f"{path}: `{tensor.name}` has the shape {list(tensor.shape)}, which is not that "
                "of a whole factor; gather the model's weights before saving"
            )
    rank, columns = config.peft.rank(name), math.prod(b.shape[1:])
    if a.shape[0] != columns:
        raise AdapterError(
            f"{path}: the ranks of `{a.name}`, {a.shape[0]}, and `{b.name}`, {columns}, differ; "
            "save the adapter again"
        )
    if a.shape[0] != rank:
        raise AdapterError(
            f"{path}: the rank of `{a.name}` is {a.shape[0]}, but {CONFIG_FILE} says {rank} "
            "(r, rank_pattern); use both files of one adapter"
        )
    return LoraModule(name, a, b, config.peft.scale(name))
