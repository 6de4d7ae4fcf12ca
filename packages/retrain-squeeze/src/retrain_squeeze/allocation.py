"""Choose a rank for each module, to reach a given quality with few parameters."""

import heapq
from collections.abc import Sequence
from typing import NamedTuple

from retrain_squeeze.spectrum import Floats

_ROUNDING = 1e-12  # of a sum of shares


class ModuleCost(NamedTuple):
    """The curve and cost of a module.

    `retained[k-1]` is V(k), shape (r,); each rank costs `per_rank` parameters, in + out.
    """

    retained: Floats
    per_rank: int


def fewest_parameters(modules: Sequence[ModuleCost], uniform: Sequence[int]) -> list[int]:
    """Ranks that keep as much variance in total as `uniform` does, with the fewest parameters.

    A greedy search: every module starts at rank 1, and the module that gains the most variance per
    parameter gets another rank until the sum of V reaches the goal. Ranks that proved unnecessary
    are then removed. V is concave in k because singular values are sorted, so the search is optimal
    for fractional ranks and exceeds the optimum for whole ones by one rank at most.

    Args:
      modules: curve and cost of each module.
      uniform: ranks, from 1 to r of each module, whose sum of V is the goal.

    Returns:
      A rank for each module, from 1 to its r; `uniform` itself if that has fewer parameters.
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
    """The share that a module gains from `rank` to `rank + 1`; 0 from its own rank on."""
    if rank >= len(module.retained):
        return 0.0
    return float(module.retained[rank] - module.retained[rank - 1])


def _kept(modules: Sequence[ModuleCost], ranks: Sequence[int]) -> float:
    return sum(float(m.retained[rank - 1]) for m, rank in zip(modules, ranks, strict=True))


def _parameters(modules: Sequence[ModuleCost], ranks: Sequence[int]) -> int:
    return sum(module.per_rank * rank for module, rank in zip(modules, ranks, strict=True))
