import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrain_backends.boxed import extract_boxed

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "boxed_match.json"
CASES = [c for c in json.loads(GOLDEN.read_text())["cases"] if c["function"] == "extract_boxed"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_golden(case):
    assert (extract_boxed(case["inputs"]["text"]) or "") == case["expected"]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("no box", None),
        (r"\boxed{42", None),
        (r"\boxed{", None),
        (r"\boxed{a{b}", None),
        (r"\boxed{}", ""),
        (r"\boxed{1} then \boxed{2", "1"),
        (r"\boxed{1 and \boxed{2}", "2"),
        (r"{ \boxed{3} }} {", "3"),
        (r"\boxed{\left\{ 1 \right.}", r"\left\{ 1 \right."),
        (r"\boxed{\}}", r"\}"),
        (r"\\\boxed{4}", "4"),
        ("\\boxed{5}\\", "5"),
        (r"\boxed {5}", "5"),
        ("\\boxed\n  {5}", "5"),
        ("\\boxed{1} or \\\\\\boxed\t{2}", "2"),
        (r"\boxed 5 {6}", None),
    ],
)
def test_only_a_box_that_closes_is_an_answer(text, answer):
    assert extract_boxed(text) == answer


@pytest.mark.parametrize("opening", [r"\boxed{", "{", r"\boxed{{", r"\boxed {"])
def test_deep_nesting_is_read_in_one_pass(opening):
    depth = 200_000  # minutes, were it quadratic
    assert extract_boxed(opening * depth) is None
    closed = r"\boxed{" + opening * depth + "x" + "}" * (opening.count("{") * depth + 1)
    assert extract_boxed(closed) is not None


balanced = st.recursive(
    st.text(alphabet="ab1 +", max_size=4),
    lambda inner: st.lists(inner, max_size=3).map(lambda parts: "{" + "".join(parts) + "}"),
)


@given(before=st.text(), answer=balanced, after=st.text(alphabet="ab{ \\$"))
def test_a_balanced_answer_is_found_whatever_stands_around_it(before, answer, after):
    closed = rf"{before} \boxed{{{answer}}}"
    assert extract_boxed(closed + after) == answer.strip()
