import json
from importlib.util import find_spec

import pytest

from retrain_backends.config import load_config
from retrain_backends.errors import DataError
from retrain_backends.train.checks.reward_check import Answer, check_reward, rewritten
from retrain_backends.types import Verdict


class AlwaysRight:
    def score(self, items):
        return [Verdict(1.0) for _ in items]


class Asleep:
    def score(self, items):
        return [Verdict(None, "asleep") for _ in items]


@pytest.fixture
def make_config(tmp_path):
    """Configurations whose data have these references."""

    def make(*references, **reward):
        rows = [{"question": "q", "answer": reference} for reference in references]
        data = tmp_path / "data.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        settings = {f"reward.{key}": value for key, value in reward.items()}
        return load_config(None, {"data.source": "jsonl", "data.path": str(data), **settings})

    return make


def counts(found):
    return {known.value: dict(found.counts(known)) for known in Answer}


def test_a_reward_that_works_has_no_surprises(make_config):
    found = check_reward(make_config("1", "2", "2"), 10)
    assert (found.examples, found.surprises) == (3, [])
    assert counts(found) == {"right": {"right": 3}, "wrong": {"wrong": 3}}


@pytest.mark.parametrize(
    ("reward", "expected"),
    [
        (AlwaysRight, {"right": {"right": 2}, "wrong": {"right": 2}}),
        (Asleep, {"right": {"no verdict": 2}, "wrong": {"no verdict": 2}}),
    ],
)
def test_a_reward_that_does_not_work_surprises(make_config, reward, expected):
    found = check_reward(make_config("1", "2", type=f"{__name__}:{reward.__name__}"), 10)
    assert counts(found) == expected
    assert len(found.surprises) == sum(expected["wrong"].values()) * (1 + (reward is Asleep))


def test_one_reference_for_all_still_has_wrong_answers(make_config):
    found = check_reward(make_config("7", "7"), 10)
    assert {one.answer for one in found.tried if one.known is Answer.WRONG} == {"71"}


def test_a_reference_that_cannot_be_boxed_surprises(make_config):
    found = check_reward(make_config("1", r"\frac{"), 10)
    assert [one.answer for one in found.surprises] == [r"\frac{"]


def test_the_sample_is_the_same_each_time(make_config):
    config = make_config(*map(str, range(100)))
    one, two = (check_reward(config, 5) for _ in range(2))
    assert [tried.example for tried in one.tried] == [tried.example for tried in two.tried]
    assert len(one.tried) == 10


def test_generated_examples_can_be_checked():
    found = check_reward(load_config(None, {"data.source": "arithmetic"}), 5)
    assert (found.examples, found.surprises) == (5, [])


def test_missing_data_are_reported(tmp_path):
    config = load_config(None, {"data.source": "jsonl", "data.path": str(tmp_path / "no.jsonl")})
    with pytest.raises(DataError, match="there is no file"):
        check_reward(config, 5)


@pytest.mark.skipif(not find_spec("math_verify"), reason="needs math-verify")
def test_where_match_and_math_differ(make_config):
    found = check_reward(make_config(r"\frac{1}{2}", "1000", r"\frac{"), 10)
    differ = {(one.form, one.answer): (one.match.value, one.math) for one in found.disagreements}
    assert differ["right, with a slash", "1/2"] == (0.0, Verdict(1.0))
    assert differ["right, with commas", "1,000"] == (0.0, Verdict(1.0))
    unreadable = [math.reason for match, math in differ.values() if math.value is None]
    assert unreadable == [r"math-verify cannot read the reference `\frac{`"]
    assert found.compared == 6 + len(rewritten(r"\frac{1}{2}")) + len(rewritten("1000")) + 2


def test_ways_to_write_an_answer():
    assert rewritten("1000") == {
        "as a decimal": "1000.0",
        "with commas": "1,000",
        "between dollar signs": "$1000$",
    }
    assert rewritten(r"-\frac{1}{2}") == {
        r"with \dfrac": r"-\dfrac{1}{2}",
        "between dollar signs": r"$-\frac{1}{2}$",
    }
