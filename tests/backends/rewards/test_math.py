import json
from pathlib import Path

import pytest

pytest.importorskip("math_verify")

from contextlib import closing

from retrain_backends.config import RewardConfig
from retrain_backends.rewards import build_reward
from retrain_backends.rewards.answer_pairs import answer_pairs
from retrain_backends.train.checks.reward_check import judge_pairs
from retrain_backends.types import Verdict

GOLDEN = Path(__file__).parents[2] / "data" / "golden" / "math_reward.json"
NOT_FOUND_THE_SAME = {"inequalities": [("2x<6", "x<3"), ("|x|<2", "-2<x<2")]}
LONG = "+".join("1" * 1000)
DEEP = r"\sqrt{" * 150 + "x" + "}" * 150
CASES = json.loads(GOLDEN.read_text())["cases"]


@pytest.fixture(scope="module")
def maths():
    """One reward for all tests, since its processes take a while to start."""
    config = RewardConfig(type="math", timeout_s=60.0, max_failure_rate=1.0, workers=1)
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


@pytest.fixture(scope="module")
def misjudged():
    return judge_pairs(RewardConfig(type="math", timeout_s=60.0, workers=1))


@pytest.mark.parametrize("kind", sorted({pair.kind for pair in answer_pairs()}))
def test_the_table_of_pairs(misjudged, kind):
    wrong = [(pair.answer, pair.reference) for pair in misjudged.pairs if pair.kind == kind]
    assert wrong == NOT_FOUND_THE_SAME.get(kind, [])


def test_the_table_has_every_kind_of_pair_once():
    pairs = answer_pairs()
    assert len(pairs) > 219
    assert len({(pair.answer, pair.reference) for pair in pairs}) == len(pairs)
    assert not [pair for pair in pairs if pair.answer == pair.reference]
    assert all({p.same for p in pairs if p.kind == kind} == {True, False} for kind, *_ in pairs)


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        pytest.param(LONG, "1000", id="long answer"),
        pytest.param("1000", LONG, id="long reference"),
        pytest.param(DEEP, "x", id="deep answer", marks=pytest.mark.slow),
        pytest.param("x", DEEP, id="deep reference", marks=pytest.mark.slow),
    ],
)
def test_recursion_that_ends_early_is_no_verdict(maths, to_items, answer, reference):
    reason = "math-verify reached the recursion limit (RecursionError)"
    items = to_items(rf"\boxed{{{answer}}}", reference=reference)
    assert maths.score(items) + maths.score(items) == [Verdict(None, reason)] * 2


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
