import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrain_squeeze import AdapterError, SqueezeConfigError, analyze_adapter

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "squeeze.json"
CASES = json.loads(GOLDEN.read_text())["cases"]
SHAPES = {"layers.0.q": (6, 5), "layers.0.up": (12, 5), "layers.1.q": (6, 5)}


@pytest.fixture
def close():
    """`close(case, expected)`: a number within the tolerance of the case."""
    return lambda case, value: pytest.approx(
        value, abs=case["tolerance"]["abs"], rel=case["tolerance"]["rel"]
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_golden_table_and_recommendations(case, golden_adapter, close):
    path, expected = golden_adapter(case), case["expected"]
    ranks = case["params"]["target_ranks"] or ()
    for threshold, rank in expected["recommended_rank"].items():
        analysis = analyze_adapter(path, float(threshold), ranks)
        assert analysis.recommended_rank == rank
    assert analysis.source_rank == expected["source_rank"]
    assert [row.rank for row in analysis.table] == expected["target_ranks"]
    for row, want in zip(analysis.table, expected["variance_table"], strict=True):
        got = {"rank": row.rank, "mean": row.mean, "min": row.minimum, "max": row.maximum}
        assert got == {key: close(case, value) for key, value in want.items()}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_golden_curves(case, golden_adapter, close):
    analysis = analyze_adapter(golden_adapter(case))
    scale = case["inputs"]["recipe"]["lora_alpha"] / analysis.source_rank
    curves = {f"base_model.model.{module.name}": module for module in analysis.modules}
    assert curves.keys() == case["expected"]["singular_values"].keys()
    for name, values in case["expected"]["singular_values"].items():
        squares = np.square(values)
        assert curves[name].variance == close(case, scale**2 * squares.sum())
        kept = np.cumsum(squares) / squares.sum() if squares.any() else np.ones(len(squares))
        assert curves[name].retained.tolist() == [close(case, share) for share in kept]
        assert (name.removeprefix("base_model.model.") in analysis.zero_modules) == (
            not squares.any()
        )


@pytest.mark.parametrize(
    ("rank", "ranks"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (4, [1, 2, 4]), (5, [1, 2, 4, 5])]
)
def test_ranks_are_powers_of_two_and_the_adapters(save_adapter, factors, rank, ranks):
    analysis = analyze_adapter(save_adapter(factors(SHAPES, rank), r=rank))
    assert [row.rank for row in analysis.table] == ranks


def test_ranks_asked_for_are_sorted_and_the_source_is_the_way_out(save_adapter, factors):
    path = save_adapter(factors(SHAPES, decay=1.0))
    analysis = analyze_adapter(path, 1.0, [2, 1], source_rank=4)
    assert [row.rank for row in analysis.table] == [1, 2]
    assert analysis.recommended_rank == 4


def test_ranks_of_numpy_are_ranks(save_adapter, factors):
    analysis = analyze_adapter(save_adapter(factors(SHAPES)), 0.1, np.array([1, 3]))
    assert json.dumps([row.rank for row in analysis.table]) == "[1, 3]"
    assert analysis.parameters(analysis.recommended_rank) < analysis.parameters(4)


def test_modules_of_a_lower_rank_keep_everything_from_there_on(save_adapter, factors):
    tensors = factors({"a": (6, 5)}) | factors({"b": (7, 5)}, rank=2)
    analysis = analyze_adapter(save_adapter(tensors, rank_pattern={"b": 2}))
    assert analysis.source_rank == 4
    assert {module.name: module.rank for module in analysis.modules} == {"a": 4, "b": 2}
    assert analysis.table[1].maximum == 1.0


@pytest.mark.parametrize(
    ("config", "scale"), [({}, 2.0), ({"use_rslora": True}, 4.0), ({"lora_alpha": 0.5}, 0.125)]
)
def test_variance_is_that_of_the_scaled_update(save_adapter, factors, config, scale):
    tensors = factors({"q": (6, 5)})
    a, b = (tensors[f"base_model.model.q.lora_{x}.weight"].astype(float) for x in "AB")
    (module,) = analyze_adapter(save_adapter(tensors, **config)).modules
    assert module.variance == pytest.approx(np.sum((scale * b @ a) ** 2), rel=1e-12)


def test_worst_modules_come_worst_first(save_adapter, factors):
    decays = {"steep": 0.1, "flat": 1.0, "one": 0.0, "mid": 0.4}
    tensors = {}
    for name, decay in decays.items():
        tensors |= factors({name: (60, 50)}, decay=decay)
    analysis = analyze_adapter(save_adapter(tensors))
    assert [module.name for module in analysis.worst_modules(1, 3)] == ["flat", "mid", "steep"]


def test_zero_modules_change_no_statistic(save_adapter, factors):
    tensors = factors({"q": (20, 20)}, decay=0.9)
    zeros = {f"zero.{i}": (20, 20) for i in range(9)}
    blank = {name: 0 * tensor for name, tensor in factors(zeros).items()}
    alone = analyze_adapter(save_adapter(tensors))
    analysis = analyze_adapter(save_adapter({**tensors, **blank}))
    assert (analysis.table, analysis.recommended_rank) == (alone.table, alone.recommended_rank)
    assert alone.recommended_rank == 4
    assert analysis.zero_modules == tuple(zeros)
    assert [module.name for module in analysis.worst_modules(2)] == ["q"]
    assert analysis.module_ranks() == {**alone.module_ranks(), **dict.fromkeys(zeros, 1)}


def test_sizes(save_adapter, factors):
    tensors = factors({"a": (6, 5)}) | factors({"b": (7, 5)}, rank=2)
    analysis = analyze_adapter(save_adapter(tensors, rank_pattern={"b": 2}))
    assert analysis.parameters(4) == sum(tensor.size for tensor in tensors.values())
    assert analysis.parameters({"a": 3, "b": 1}) == 3 * 11 + 12


def test_ranks_of_their_own_keep_as_much_with_fewer_parameters(save_adapter, factors):
    tensors = factors({f"{i}.up": (40, 30) for i in range(4)}, rank=8, decay=0.9)
    tensors |= factors({f"{i}.q": (20, 20) for i in range(4)}, rank=8, decay=0.4)
    analysis = analyze_adapter(save_adapter(tensors, r=8), 0.9)
    ranks = analysis.module_ranks()
    row = next(row for row in analysis.table if row.rank == analysis.recommended_rank)
    kept = [module.retained_at(ranks[module.name]) for module in analysis.modules]
    assert np.mean(kept) >= row.mean - 1e-9
    assert analysis.parameters(ranks) < analysis.parameters(analysis.recommended_rank)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"min_variance_retention": 0}, "min_variance_retention is `0`; it must be > 0 and <= 1"),
        ({"min_variance_retention": 1.01}, "min_variance_retention is `1.01`"),
        ({"min_variance_retention": float("nan")}, "min_variance_retention is `nan`"),
        ({"target_ranks": [2, 5]}, "target_ranks has `5`, but the rank of"),
        ({"target_ranks": [0]}, "target_ranks has `0`"),
        ({"source_rank": 8}, "source_rank is `8`, but the rank of"),
    ],
)
def test_arguments_out_of_range(save_adapter, factors, arguments, said):
    path = save_adapter(factors(SHAPES))
    with pytest.raises(SqueezeConfigError) as caught:
        analyze_adapter(path, **arguments)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_nothing_learnt_is_nothing_to_analyse(save_adapter, factors):
    path = save_adapter(factors(SHAPES, decay=0.0) | factors({"q": (6, 5)}), lora_alpha=0)
    with pytest.raises(AdapterError, match="the update of every module is zero"):
        analyze_adapter(path)


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_numbers_that_are_none_are_named(save_adapter, factors, bad):
    tensors = factors(SHAPES)
    tensors["base_model.model.layers.1.q.lora_A.weight"][2, 3] = bad
    with pytest.raises(
        AdapterError, match=r"the factors of `layers\.1\.q` contain NaN or infinity"
    ):
        analyze_adapter(save_adapter(tensors))


def test_progress_counts_the_modules(save_adapter, factors):
    seen = []
    analyze_adapter(save_adapter(factors(SHAPES)), on_module=lambda *at: seen.append(at))
    assert seen == [(1, 3), (2, 3), (3, 3)]


@given(st.integers(0, 99), st.floats(0.01, 100), st.floats(0.1, 1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
def test_scaling_an_adapter_changes_no_curve(save_adapter, factors, seed, factor, decay):
    plain = factors({"a": (6, 5), "b": (9, 8)}, seed=seed, decay=decay, dtype=np.float64)
    scaled = {name: tensor * factor if "A" in name else tensor for name, tensor in plain.items()}
    curves = [
        [module.retained for module in analyze_adapter(save_adapter(tensors)).modules]
        for tensors in (plain, scaled)
    ]
    np.testing.assert_allclose(curves[0], curves[1], atol=1e-9)
    assert (np.diff(curves, axis=-1) >= 0).all()
