"""Which rank each module gets when parameters are to be saved."""

import heapq
from collections.abc import Sequence
from typing import NamedTuple

from retrain_squeeze.spectrum import Floats

_ROUNDING = 1e-12  # of a sum of shares


class ModuleCost(NamedTuple):
    """`retained[k-1]` is V(k), shape (r,); each rank costs `per_rank` parameters, in + out."""

    retained: Floats
    per_rank: int


def fewest_parameters(modules: Sequence[ModuleCost], uniform: Sequence[int]) -> list[int]:
    """Ranks that keep together as much as `uniform` does, with as few parameters as can be.

    From rank 1 everywhere, the module whose next rank keeps the most more per parameter gets it,
    until the sum of V is reached; then those ranks are taken back that were not needed after all.
    V is concave in k, as singular values are sorted, so the first part solves the problem with
    divisible ranks: at most the last rank given is more than any whole ranks need.

    Args:
      modules: of each module its curve and the price of a rank.
      uniform: the ranks, from 1 to r of each module, whose sum of V is to be reached.

    Returns:
      A rank of each module, from 1 to its r; `uniform` itself, should it be the cheaper.
    """
    goal = _kept(modules, uniform) - _ROUNDING * len(modules)
    ranks = [1] * len(modules)
    kept = _kept(modules, ranks)
    queue = [(-_gain(module, 1) / module.per_rank, i) for i, module in enumerate(modules)]
    heapq.heapify(queue)
    given: list[int] = []
    while kept < goal:
        _, i = heapq.heappop(queue)
        kept += _gain(modules[i], ranks[i])
        ranks[i] += 1
        given.append(i)
        heapq.heappush(queue, (-_gain(modules[i], ranks[i]) / modules[i].per_rank, i))
    for i in sorted(set(given), key=lambda i: -modules[i].per_rank):
        loss = _gain(modules[i], ranks[i] - 1)
        if kept - loss >= goal:
            kept -= loss
            ranks[i] -= 1
    return min(ranks, list(uniform), key=lambda ranks: _parameters(modules, ranks))


def _gain(module: ModuleCost, rank: int) -> float:
    """What a module keeps more at `rank + 1` than at `rank`; none beyond its own rank."""
    if rank >= len(module.retained):
        return 0.0
    return float(module.retained[rank] - module.retained[rank - 1])


def _kept(modules: Sequence[ModuleCost], ranks: Sequence[int]) -> float:
    return sum(float(m.retained[rank - 1]) for m, rank in zip(modules, ranks, strict=True))


def _parameters(modules: Sequence[ModuleCost], ranks: Sequence[int]) -> int:
    return sum(module.per_rank * rank for module, rank in zip(modules, ranks, strict=True))
