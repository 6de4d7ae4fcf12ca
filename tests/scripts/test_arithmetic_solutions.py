import runpy
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrain_backends.boxed import extract_boxed

SCRIPT = Path(__file__).parents[2] / "scripts" / "arithmetic_solutions.py"
columns, value_of, solution = (
    runpy.run_path(str(SCRIPT))[name] for name in ("columns", "value_of", "solution")
)


@pytest.mark.parametrize(
    ("left", "operator", "right", "worked", "quick"),
    [
        (47, "+", 38, [15, 8], [15, 7]),
        (52, "-", 38, [4, 1], [4, 2]),
        (7, "*", 48, [56, 33], [56, 28]),
        (300, "-", 99, [1, 0, 2], [1, 1, 3]),
    ],
)
def test_columns(left, operator, right, worked, quick):
    assert columns(left, operator, right, carry=True) == worked
    assert columns(left, operator, right, carry=False) == quick


@given(st.integers(10, 999), st.integers(10, 999), st.integers(2, 9))
def test_worked_columns_spell_the_answer(a, b, digit):
    low, high = sorted((a, b))
    assert value_of(columns(a, "+", b, carry=True)) == a + b
    assert value_of(columns(high, "-", low, carry=True)) == high - low
    assert value_of(columns(digit, "*", b, carry=True)) == digit * b


@given(st.integers(0, 2**32))
def test_worked_solutions_without_slips_are_right(seed):
    rng = np.random.default_rng(seed)
    text = solution("What is 347 + 85?", rng, quick_share=0.0, slip_share=0.0)
    assert text == "let me think: 12 13 4 \\boxed{432}"


@given(st.integers(0, 2**32))
def test_a_slip_is_one_column_off_by_one(seed):
    rng = np.random.default_rng(seed)
    text = solution("What is 347 + 85?", rng, quick_share=0.0, slip_share=1.0)
    working = [int(word) for word in text.split()[3:-1]]
    assert sum(abs(a - b) for a, b in zip(working, [12, 13, 4], strict=True)) == 1
    assert extract_boxed(text) == str(value_of(working))
