"""Compress an adapter: the best approximation of each module's update at a lower rank."""

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from operator import index
from os import PathLike
from pathlib import Path

from retrain_squeeze.adapter import AdapterFiles, LoraModule, check_finite, read_adapter
from retrain_squeeze.errors import AdapterError, SqueezeConfigError
from retrain_squeeze.file_names import CONFIG_FILE, TOKENIZER_FILES, WEIGHTS_FILE
from retrain_squeeze.linear_algebra import LinearAlgebra, OnModule, for_each, linear_algebra_for
from retrain_squeeze.output_directory import obstacle, whole_directory
from retrain_squeeze.spectrum import Floats, best_mixing, mixed_a, mixed_b
from retrain_squeeze.tensors import Tensor, TensorWriter, encode, is_finite


def compress_adapter(
    path: str | PathLike[str],
    output_path: str | PathLike[str],
    target_rank: int,
    *,
    module_ranks: Mapping[str, int] | None = None,
    device: str = "cpu",
    on_module: OnModule | None = None,
) -> None:
    """Write an adapter of a lower rank, with the best approximation of each update.

        B' = Q_b U_k S_k^(1/2),   A' = S_k^(1/2) V_k^T Q_a^T,   r' = k,   alpha' = alpha k / r

    with `B A = Q_b U S V^T Q_a^T`. Alpha is not rounded, so that every module
    keeps its scale; with `use_rslora` it is alpha sqrt(k / r). Factors keep their number format;
    all other tensors and keys are copied unchanged. The output directory appears under its name
    once it is complete and flushed to the disk; in an existing directory, the configuration is
    written last.

    Args:
      path: a PEFT directory, with `adapter_config.json` and `adapter_model.safetensors`.
      output_path: directory to write; new or empty, or with the files that an earlier call with
        the same arguments wrote.
      target_rank: from 1 to the adapter's rank. Modules of a lower rank keep their rank.
      module_ranks: separate ranks for these modules, as returned by
        `SqueezeAnalysis.module_ranks`; they are written as `rank_pattern` and `alpha_pattern`.
      device: `cpu`, or a device of PyTorch such as `cuda:0`, which needs the extra `torch`.
      on_module: called as `on_module(done, total)` after each module.

    Raises:
      SqueezeConfigError: an argument is out of range or does not fit the adapter, or the output
        directory has other files.
      AdapterError: the adapter is missing, damaged, or not plain LoRA.
      SqueezeError: the output cannot be written.

    Source: LoRA-Squeeze, arXiv 2602.10993.
    """
    output = Path(output_path)
    if occupied := obstacle(output):
        raise SqueezeConfigError(f"output_path is `{output}`, {occupied}")
    algebra = linear_algebra_for(device)
    adapter = read_adapter(Path(path))
    ranks = _ranks(adapter, target_rank, module_ranks or {})
    with whole_directory(output) as directory:
        weights = _Weights(adapter, algebra, ranks, directory / WEIGHTS_FILE)
        for_each(weights.write_module, adapter.modules, algebra.threads, on_module)
        weights.copy_others()
        config = json.dumps(adapter.config.at_ranks(ranks), indent=2, ensure_ascii=False)
        (directory / CONFIG_FILE).write_text(config + "\n", encoding="utf-8")
        for pattern in TOKENIZER_FILES:
            for file in filter(Path.is_file, adapter.path.glob(pattern)):
                shutil.copyfile(file, directory / file.name)


def _ranks(adapter: AdapterFiles, target: int, chosen: Mapping[str, int]) -> dict[str, int]:
    """The rank of every module, as Python integers, which can be written as JSON."""
    if not 1 <= target <= adapter.rank:
        raise SqueezeConfigError(
            f"the target rank is `{target}`, but the rank of {adapter.path} is {adapter.rank}; "
            f"compress to a rank from 1 to {adapter.rank}"
        )
    ranks = {module.name: min(index(target), module.rank) for module in adapter.modules}
    if unknown := next((name for name in chosen if name not in ranks), None):
        raise SqueezeConfigError(
            f"module_ranks names `{unknown}`, which {adapter.path} does not have; "
            "use the names of its analysis"
        )
    ranks.update({name: index(rank) for name, rank in chosen.items()})
    for module in adapter.modules:
        if not 1 <= ranks[module.name] <= module.rank:
            raise SqueezeConfigError(
                f"module_ranks gives `{module.name}` the rank {ranks[module.name]}; it must be "
                f"from 1 to its rank, {module.rank}"
            )
    return ranks


class _Weights:
    """The new weights file, filled module by module."""

    def __init__(
        self, adapter: AdapterFiles, algebra: LinearAlgebra, ranks: Mapping[str, int], path: Path
    ) -> None:
        self._adapter, self._algebra, self._ranks = adapter, algebra, ranks
        factors = [
            tensor for module in adapter.modules for tensor in _resized(module, ranks[module.name])
        ]
        self._file = TensorWriter(path, [*factors, *adapter.others], adapter.file.metadata)

    def write_module(self, module: LoraModule) -> None:
        a, b = self._adapter.stored(module)
        r_a, r_b = self._algebra.triangles(a, b)
        check_finite(self._adapter, module, r_a, r_b)
        mix_a, mix_b = best_mixing(r_a, r_b, self._ranks[module.name])
        for column, block in mixed_a(a, mix_a):
            self._write(module.a, block, column=column)
        for row, block in mixed_b(b, mix_b):
            self._write(module.b, block, row=row)

    def _write(self, tensor: Tensor, values: Floats, row: int = 0, column: int = 0) -> None:
        stored = encode(values, tensor.dtype)
        if not is_finite(stored):
            raise AdapterError(
                f"{self._adapter.file.path}: the new `{tensor.name}` has numbers too large for "
                f"{tensor.dtype}; save the adapter as float32 or bfloat16 first"
            )
        self._file.write(tensor.name, stored, row, column)

    def copy_others(self) -> None:
        """Copy the tensors that are not factors, unchanged."""
        for tensor in self._adapter.others:
            self._file.copy(tensor, self._adapter.file.path)


def _resized(module: LoraModule, rank: int) -> Iterator[Tensor]:
    """The factors of a module at another rank; their position in the file is not set."""
    a, b = module.a, module.b
    for tensor, shape in ((a, (rank, *a.shape[1:])), (b, (b.shape[0], rank, *b.shape[2:]))):
        yield replace(tensor, shape=shape, size=tensor.size // module.rank * rank)
