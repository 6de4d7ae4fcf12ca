"""Golden vectors: `@pytest.mark.golden(family, function)` runs a test on each of its cases."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

GOLDEN = Path(__file__).parents[1] / "data" / "golden"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "golden(family, *functions): runs on these golden vectors")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marker = metafunc.definition.get_closest_marker("golden")
    if marker is None:
        return
    family, *functions = marker.args
    cases = json.loads((GOLDEN / f"{family}.json").read_text())["cases"]
    chosen = [case for case in cases if case["function"] in functions]
    assert chosen, f"no golden vectors of {functions} in {family}"
    metafunc.parametrize("case", chosen, ids=[case["name"] for case in chosen])


def _agrees(got: Any, expected: Any, tolerance: dict[str, float]) -> bool:
    if isinstance(expected, dict):
        return all(_agrees(got[key], value, tolerance) for key, value in expected.items())
    if isinstance(expected, list):
        return len(got) == len(expected) and all(
            _agrees(g, e, tolerance) for g, e in zip(got, expected, strict=True)
        )
    if expected is None or isinstance(expected, str | bool):
        return got == expected and isinstance(got, type(expected) | np.bool_)
    return abs(got - float(expected)) <= tolerance["abs"] + tolerance["rel"] * abs(expected)


@pytest.fixture
def check() -> Callable[[dict[str, Any], Any], None]:
    """`check(case, got)`: everything the case expects must be in `got`, within its tolerance."""

    def check(case: dict[str, Any], got: Any) -> None:
        assert _agrees(got, case["expected"], case["tolerance"]), (got, case["expected"])

    return check


@pytest.fixture
def numbers() -> Callable[[list[Any]], np.ndarray]:
    """`numbers(list)`: an array, with the vectors' "Infinity" strings read as numbers."""
    return lambda values: np.array([float(value) for value in values], dtype=np.float64)
