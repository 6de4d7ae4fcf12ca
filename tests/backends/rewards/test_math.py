import json
from pathlib import Path

import pytest

pytest.importorskip("math_verify")

from contextlib import closing

from retrain_backends.config import RewardConfig
from retrain_backends.rewards import build_reward
from retrain_backends.types import Verdict

GOLDEN = Path(__file__).parents[2] / "data" / "golden" / "math_reward.json"
CASES = json.loads(GOLDEN.read_text())["cases"]


@pytest.fixture(scope="module")
def maths():
    """One reward for all tests, since its processes take a while to start."""
    config = RewardConfig(type="math", timeout_s=30.0, max_failure_rate=1.0, workers=1)
    with closing(build_reward(config)) as service:
        yield service


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_golden(maths, to_items, case):
    inputs = case["inputs"]
    [verdict] = maths.score(to_items(inputs["response"], reference=inputs["reference"]))
    assert verdict == Verdict(case["expected"])


def test_a_batch_is_judged_in_order(maths, to_items):
    answers = ["1/2", "0.5", "2", r"\frac{3}{6}", "x", "1/2"]
    verdicts = maths.score(to_items(*(rf"\boxed{{{a}}}" for a in answers), reference="0.5"))
    assert [verdict.value for verdict in verdicts] == [1.0, 1.0, 0.0, 1.0, 0.0, 1.0]


@pytest.mark.parametrize("reference", [r"\frac{", "#$%&"])
def test_a_reference_that_cannot_be_read_has_no_verdict(maths, to_items, reference):
    items = to_items(r"\boxed{3}", rf"\boxed{{{reference}}}", "nothing", reference=reference)
    wrong, _same, none = maths.score(items)
    assert wrong == Verdict(None, f"math-verify cannot read the reference `{reference}`")
    assert none == Verdict(0.0)


def test_the_reference_itself_is_right_whatever_it_says(maths, to_items):
    [verdict] = maths.score(to_items(r"\boxed{ #\$% }", reference=r"#\$% "))
    assert verdict == Verdict(1.0)


@pytest.mark.parametrize(
    "response",
    [
        r"\boxed{9^{9^{9^9}}}",
        rf"\boxed{{{'{' * 3000}1{'}' * 3000}}}",
        rf"\boxed{{{'(' * 3000}1}}",
        rf"\boxed{{{'1' * 10_000_000}}}",
    ],
    ids=["tower", "nested braces", "parentheses", "ten million digits"],
)
def test_what_math_verify_cannot_bear_costs_only_itself(reward, to_items, response):
    service = reward(type="math", timeout_s=3.0, workers=2)
    right, wrong = r"\boxed{0.5}", r"\boxed{0.25}"
    items = to_items(right, response, wrong, right, reference=r"\frac{1}{2}")
    first, bad, *others = [verdict.value for verdict in service.score(items)]
    assert bad in (None, 0.0)
    assert [first, *others] == [1.0, 0.0, 1.0]


@pytest.mark.parametrize(
    "unit", ["x", "{", "\\", r"\boxed{"], ids=["text", "braces", "escapes", "boxes"]
)
def test_ten_megabytes_without_an_answer(maths, to_items, unit):
    text = unit * (10_000_000 // len(unit))
    assert maths.score(to_items(text, r"\boxed{7}")) == [Verdict(0.0), Verdict(1.0)]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux limits memory")
def test_a_comparison_for_which_memory_is_too_short_has_no_verdict(reward, to_items):
    service = reward(type="math", timeout_s=30.0, memory_mb=32, workers=1)
    [verdict] = service.score(to_items(r"\boxed{2^{10^{10}}}", reference="5"))
    assert verdict == Verdict(None, "out of memory (see reward.memory_mb)")
