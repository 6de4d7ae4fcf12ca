import json
from pathlib import Path

import pytest

from retrain_backends.config import RewardConfig
from retrain_backends.rewards import build_reward
from retrain_backends.types import Example, Rollout, Verdict

GOLDEN = Path(__file__).parents[2] / "data" / "golden" / "boxed_match.json"
CASES = [c for c in json.loads(GOLDEN.read_text())["cases"] if c["function"] == "match_reward"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_golden(case):
    item = Rollout(Example("q", case["inputs"]["reference"]), case["inputs"]["response"])
    assert build_reward(RewardConfig()).score([item]) == [Verdict(case["expected"])]


def test_one_verdict_for_each_item_in_order():
    items = [Rollout(Example("q", "7"), rf"\boxed{{{answer}}}") for answer in (7, 8, 7)]
    assert [v.value for v in build_reward(RewardConfig()).score(items)] == [1.0, 0.0, 1.0]


@pytest.mark.parametrize("unit", ["x", "{", "\\", r"\boxed{"])
def test_ten_megabytes_without_an_answer(unit):
    items = [Rollout(Example("q", "7"), unit * (10_000_000 // len(unit)))]
    assert build_reward(RewardConfig()).score(items) == [Verdict(0.0)]
