from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrain_squeeze.allocation import ModuleCost, fewest_parameters
from retrain_squeeze.spectrum import retained_variance

COSTS = st.lists(
    st.tuples(st.lists(st.floats(0, 9), min_size=1, max_size=5), st.integers(1, 20)),
    min_size=1,
    max_size=4,
)


def modules(drawn):
    return [
        ModuleCost(retained_variance(np.sort(np.array(squares))[::-1]), price)
        for squares, price in drawn
    ]


def kept(costs, ranks):
    return sum(cost.retained[rank - 1] for cost, rank in zip(costs, ranks, strict=True))


def price(costs, ranks):
    return sum(cost.per_rank * rank for cost, rank in zip(costs, ranks, strict=True))


@given(COSTS, st.integers(1, 5))
def test_as_much_is_kept_for_no_more_and_within_one_rank_of_the_least(drawn, rank):
    costs = modules(drawn)
    uniform = [min(rank, len(cost.retained)) for cost in costs]
    ranks = fewest_parameters(costs, uniform)
    assert all(1 <= k <= len(cost.retained) for k, cost in zip(ranks, costs, strict=True))
    assert kept(costs, ranks) >= kept(costs, uniform) - 1e-9
    assert price(costs, ranks) <= price(costs, uniform)
    choices = product(*(range(1, len(cost.retained) + 1) for cost in costs))
    least = min(price(costs, c) for c in choices if kept(costs, c) >= kept(costs, uniform))
    assert price(costs, ranks) <= least + max(cost.per_rank for cost in costs)


def test_ranks_go_where_they_keep_most():
    steep, flat = np.array([0.99, 1.0, 1.0, 1.0]), np.array([0.3, 0.6, 0.9, 1.0])
    costs = [ModuleCost(steep, 10), ModuleCost(flat, 10)]
    assert fewest_parameters(costs, [2, 2]) == [1, 3]


@pytest.mark.parametrize("dear", [0, 1])
def test_of_equal_modules_the_cheap_one_gets_the_ranks(dear):
    curve = np.array([0.5, 0.75, 0.9, 1.0])
    costs = [ModuleCost(curve, 100 if i == dear else 1) for i in range(2)]
    ranks = fewest_parameters(costs, [2, 2])
    assert ranks[dear] == 1
    assert ranks[1 - dear] == 4
