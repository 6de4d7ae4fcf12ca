import json
import sys

import pytest

PLUGIN = """
from retrain_backends.types import Verdict

class AlwaysRight:
    def score(self, items):
        return [Verdict(1.0) for _ in items]
"""


@pytest.fixture
def config(here):
    """A file whose data are two fractions, beside the module of a plugin."""
    rows = [{"question": "q", "answer": answer} for answer in (r"\frac{1}{2}", r"\frac{1}{3}")]
    (here / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (here / "a.toml").write_text('[data]\nsource = "jsonl"\npath = "data.jsonl"\n')
    (here / "right_always.py").write_text(PLUGIN)
    path = sys.path.copy()
    yield "a.toml"
    sys.path[:] = path


def test_a_reward_that_works(retrain, config):
    code, page, errors = retrain("rewards", "check", config, "--examples", "2")
    assert (code, errors) == (0, "")
    assert "`match` on 2 examples" in page
    assert "`match` and `math` differ on 6 of 10 answers" in page
    assert "Surprises" not in page
    pairs = " ".join(page.partition(" known pairs: ")[2].partition("\n┏")[0].split())
    assert pairs.endswith("false positives")
    assert "0 of 143 (0.0 %) false positives" in pairs


def test_a_reward_that_does_not(retrain, config):
    flags = ["--reward-type", "right_always.AlwaysRight"]
    code, page, _ = retrain("rewards", "check", *flags, config)
    assert code == 1
    assert "Surprises: 2" in page


def test_mistakes_are_those_of_a_run(retrain, here):
    code, _, errors = retrain("rewards", "check", "b.toml", "--lrr", "1")
    assert (code, len(errors.splitlines())) == (2, 2)


def test_mistakes_in_its_own_flag_are_reported_with_the_others(retrain, config):
    code, _, errors = retrain("rewards", "check", config, "--lrr", "1", "--examples", "0")
    assert code == 2
    assert errors.splitlines() == [
        "error: --lrr: unknown flag; did you mean --lr?",
        "error: --examples: 0 is not in the range x>=1",
    ]


def test_help_says_what_can_be_given(retrain):
    assert "--examples" in retrain("rewards", "check", "--help")[1]
    assert "check" in retrain("rewards", "--help")[1]
