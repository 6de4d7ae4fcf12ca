"""Measure how much of each module's update a lower rank keeps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import index
from os import PathLike
from pathlib import Path

import numpy as np

from retrain_squeeze.adapter import AdapterFiles, LoraModule, check_finite, read_adapter
from retrain_squeeze.allocation import ModuleCost, fewest_parameters
from retrain_squeeze.errors import AdapterError, SqueezeConfigError
from retrain_squeeze.linear_algebra import LinearAlgebra, OnModule, for_each, linear_algebra_for
from retrain_squeeze.spectrum import Floats, retained_variance


@dataclass(frozen=True)
class RankVariance:
    """Mean, minimum and maximum share of variance, 0 to 1, that the modules keep at one rank."""

    rank: int
    mean: float
    minimum: float
    maximum: float


@dataclass(frozen=True, eq=False)
class ModuleCurve:
    """The share of variance that one module keeps at each rank.

    Attributes:
      name: of the module in the base model, such as `model.layers.0.self_attn.q_proj`.
      shape: (out, in) of the update.
      rank: of the module in the adapter, r.
      variance: `sum s_j^2`, the squared Frobenius norm of the update `scale * B A`.
      retained: `retained[k-1]` is `V(k) = sum_{j<=k} s_j^2 / sum s_j^2`, shape (r,), float64.
        All 1 if the update is zero.
    """

    name: str
    shape: tuple[int, int]
    rank: int
    variance: float
    retained: Floats

    def retained_at(self, rank: int) -> float:
        """V(rank); 1 from the module's own rank on."""
        return float(self.retained[min(rank, self.rank) - 1])


@dataclass(frozen=True, eq=False)
class SqueezeAnalysis:
    """The rank that an adapter needs, with the figures that it follows from.

    Attributes:
      adapter_path: the directory that was read.
      source_rank: the highest rank of a module.
      min_variance_retention: share of variance that the modules must keep on average.
      table: one row for each rank considered, lowest first, over the modules whose update is not
        zero.
      recommended_rank: the lowest rank of the table whose mean reaches
        `min_variance_retention`; `source_rank` if none does.
      modules: curve of every module, in the order of the file.
    """

    adapter_path: Path
    source_rank: int
    min_variance_retention: float
    table: tuple[RankVariance, ...]
    recommended_rank: int
    modules: tuple[ModuleCurve, ...]

    @property
    def nonzero_modules(self) -> tuple[ModuleCurve, ...]:
        """The modules whose update is not zero."""
        return _nonzero(self.modules)

    @property
    def zero_modules(self) -> tuple[str, ...]:
        """Names of the modules whose update is zero."""
        return tuple(module.name for module in self.modules if module.variance == 0)

    def mean_retained(self, rank: int) -> float:
        """The mean V(rank) of the modules whose update is not zero."""
        return _row(self.nonzero_modules, rank).mean

    def worst_modules(self, rank: int, count: int = 5) -> tuple[ModuleCurve, ...]:
        """The modules that keep the least at a rank, worst first."""
        modules = self.nonzero_modules
        return tuple(sorted(modules, key=lambda module: module.retained_at(rank))[:count])

    def module_ranks(self) -> dict[str, int]:
        """A separate rank for each module, with at least the mean V of the recommended rank.

        The ranks k_m >= 1 with the fewest parameters `sum k_m (in_m + out_m)` of all with
        `mean V_m(k_m) >= mean V_m(recommended_rank)`, up to one rank of one module, and never more
        parameters than the recommended rank everywhere. Only the mean is preserved: a single module
        may keep less than at the recommended rank. A module whose update is zero gets rank 1.
        """
        costs = [ModuleCost(module.retained, sum(module.shape)) for module in self.modules]
        uniform = [min(self.recommended_rank, module.rank) for module in self.modules]
        ranks = fewest_parameters(costs, uniform)
        return {module.name: rank for module, rank in zip(self.modules, ranks, strict=True)}

    def parameters(self, ranks: int | Mapping[str, int]) -> int:
        """The number of parameters of A and B of all modules, `sum k_m (in_m + out_m)`.

        Args:
          ranks: one for each module, or one for all; modules of a lower rank keep theirs.
        """
        at = {m.name: min(ranks, m.rank) for m in self.modules} if isinstance(ranks, int) else ranks
        return sum(at[module.name] * sum(module.shape) for module in self.modules)


def analyze_adapter(
    path: str | PathLike[str],
    min_variance_retention: float = 0.95,
    target_ranks: Sequence[int] = (),
    source_rank: int = 0,
    device: str = "cpu",
    *,
    on_module: OnModule | None = None,
) -> SqueezeAnalysis:
    """Find the lowest rank that keeps most of the variance of an adapter.

    Each module's update is `D = scale * B A` with A of shape (r, in) and B of shape (out, r). With
    its singular values s_1 >= s_2 >= ..., its best approximation of rank k keeps the share
    `V(k) = sum_{j<=k} s_j^2 / sum s_j^2` of its squared norm. The lowest rank of the table
    at which the mean of V reaches `min_variance_retention` is recommended. Modules whose update is
    zero are reported, and left out of the table.

    Factors are read in blocks, so memory use depends on neither the adapter's nor a module's size.

    Args:
      path: a PEFT directory, with `adapter_config.json` and `adapter_model.safetensors`.
      min_variance_retention: above 0, at most 1.
      target_ranks: ranks to consider, each at most the adapter's. Empty: 1, 2, 4, ... below the
        adapter's rank, and the adapter's rank.
      source_rank: expected rank of the adapter; another rank is an error. 0: any rank.
      device: `cpu`, or a device of PyTorch such as `cuda:0`, which needs the extra `torch`.
      on_module: called as `on_module(done, total)` after each module.

    Raises:
      SqueezeConfigError: an argument is out of range, or does not fit the adapter.
      AdapterError: the adapter is missing, damaged, not plain LoRA, or all zero.

    Source: LoRA-Squeeze, arXiv 2602.10993.
    """
    if not 0 < min_variance_retention <= 1:
        raise SqueezeConfigError(
            f"min_variance_retention is `{min_variance_retention}`; it must be > 0 and <= 1"
        )
    algebra = linear_algebra_for(device)
    adapter = read_adapter(Path(path))
    ranks = _ranks(target_ranks, source_rank, adapter)
    modules = tuple(
        for_each(
            lambda module: _curve(algebra, adapter, module),
            adapter.modules,
            algebra.threads,
            on_module,
        )
    )
    table = _table(_nonzero(modules), ranks, adapter)
    enough = (row.rank for row in table if row.mean >= min_variance_retention)
    return SqueezeAnalysis(
        adapter_path=adapter.path,
        source_rank=adapter.rank,
        min_variance_retention=min_variance_retention,
        table=table,
        recommended_rank=next(enough, adapter.rank),
        modules=modules,
    )


def _ranks(target_ranks: Sequence[int], source_rank: int, adapter: AdapterFiles) -> list[int]:
    if source_rank not in (0, adapter.rank):
        raise SqueezeConfigError(
            f"source_rank is `{source_rank}`, but the rank of {adapter.path} is {adapter.rank}; "
            "omit source_rank, or name another adapter"
        )
    wrong = [rank for rank in target_ranks if not 1 <= rank <= adapter.rank]
    if wrong:
        raise SqueezeConfigError(
            f"target_ranks has `{wrong[0]}`, but the rank of {adapter.path} is {adapter.rank}; "
            f"name ranks from 1 to {adapter.rank}"
        )
    powers = (2**n for n in range((adapter.rank - 1).bit_length()))
    return sorted(set(map(index, target_ranks))) or [*powers, adapter.rank]


def _curve(algebra: LinearAlgebra, adapter: AdapterFiles, module: LoraModule) -> ModuleCurve:
    squares = algebra.squares(*adapter.stored(module)) * module.scale**2
    check_finite(adapter, module, squares)
    return ModuleCurve(
        name=module.name,
        shape=module.shape,
        rank=module.rank,
        variance=float(squares.sum()),
        retained=retained_variance(squares),
    )


def _nonzero(modules: Sequence[ModuleCurve]) -> tuple[ModuleCurve, ...]:
    return tuple(module for module in modules if module.variance > 0)


def _table(
    modules: Sequence[ModuleCurve], ranks: Sequence[int], adapter: AdapterFiles
) -> tuple[RankVariance, ...]:
    if not modules:
        raise AdapterError(
            f"{adapter.file.path}: the update of every module is zero, so there is nothing to "
            "analyse; name an adapter that was trained"
        )
    return tuple(_row(modules, rank) for rank in ranks)


def _row(modules: Sequence[ModuleCurve], rank: int) -> RankVariance:
    kept = np.array([module.retained_at(rank) for module in modules])
    return RankVariance(rank, float(kept.mean()), float(kept.min()), float(kept.max()))
