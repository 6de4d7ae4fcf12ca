import json
from contextlib import chdir, closing

import numpy as np
import pytest

from retrain_backends.errors import RunError
from retrain_backends.fake import FakeBackend
from retrain_backends.rewards import RewardService
from retrain_backends.tokenizer import load_tokenizer
from retrain_backends.tracking.journal import read_metrics
from retrain_backends.train import train
from retrain_backends.train.step.scoring import StepScoring
from retrain_backends.types import Completion, Example, Prompt, Verdict

USER_MODULE = """
def first_symbol(response, reference):
    print("looking at", response)
    return response[:1] == reference

def sometimes(response, reference):
    if response[:1] == "3":
        raise ValueError("three is too many")
    return response[:1] == reference

def never(response, reference):
    raise ValueError("no idea")
"""


class Echo:
    """The verdict's text is the response; counts its calls."""

    calls = 0

    def score(self, items):
        self.calls += 1
        return [Verdict(float(item.example.reference), text=item.response) for item in items]


class LateAndWrong(FakeBackend):
    """Announces another group than it returns, and one not at all."""

    def sample(self, prompts, params, on_group=None):
        groups = super().sample(prompts, params)
        if on_group:
            on_group(0, groups[1])
        return groups


def completion(*tokens):
    return Completion(np.array(tokens), np.zeros(len(tokens)), "stop")


def prompts(*references):
    return [Prompt(Example("q", reference), "q", np.array([1])) for reference in references]


@pytest.fixture
def scoring(model_dir):
    tokenizer = load_tokenizer(str(model_dir))
    with closing(RewardService(Echo(), 0.0)) as service:
        yield StepScoring(service, tokenizer, prompts("1", "2"))


@pytest.fixture
def custom(make_config, tmp_path):
    """Makes configurations with a function of the user's as the reward."""
    (tmp_path / "mine.py").write_text(USER_MODULE)
    with chdir(tmp_path):
        yield lambda function, **others: make_config(
            {
                "reward.type": "custom",
                "reward.custom_module": "mine",
                "reward.custom_function": function,
                "reward.workers": 2,
                "training.max_steps": 3,
                **others,
            }
        )


def test_verdicts_come_in_the_order_of_the_prompts(scoring):
    groups = [[completion(2), completion(3)], [completion(4)]]
    scoring.begin(1, groups[1])
    scoring.begin(0, groups[0])
    assert scoring.texts(groups) == ["0", "1", "2"]
    assert [(v.value, v.text) for v in scoring.verdicts()] == [(1.0, "0"), (1.0, "1"), (2.0, "2")]


def test_what_was_not_announced_or_otherwise_is_judged_as_it_was_returned(scoring):
    groups = [[completion(2), completion(3)], [completion(4)]]
    scoring.begin(0, [completion(5), completion(6)])
    assert scoring.texts(groups) == ["0", "1", "2"]
    assert [verdict.text for verdict in scoring.verdicts()] == ["0", "1", "2"]


def test_a_function_of_the_users_trains(custom, capfd):
    one, two = (train(custom("first_symbol", **{"training.max_steps": 20})) for _ in range(2))
    assert one.last_rate > one.first_rate
    for name in ("emergence/steps.jsonl", "emergence/generations.jsonl"):
        assert (one.run_dir / name).read_bytes() == (two.run_dir / name).read_bytes()
    assert "looking at" not in "".join(capfd.readouterr())


def test_a_backend_that_announces_badly_trains_the_same(custom):
    one = train(custom("first_symbol"))
    two = train(custom("first_symbol", **{"backend.backend": f"{__name__}:LateAndWrong"}))
    name = "emergence/generations.jsonl"
    assert (one.run_dir / name).read_bytes() == (two.run_dir / name).read_bytes()


def test_failures_are_counted_and_logged(custom):
    summary = train(custom("sometimes", **{"reward.max_failure_rate": 1.0}))
    rows = read_metrics(summary.run_dir)
    text = (summary.run_dir / "emergence/generations.jsonl").read_text()
    generations = [json.loads(line) for line in text.splitlines()]
    failed = [row for row in generations if row["completion"][:1] == "3"]
    assert sum(row["no_verdict_count"] for row in rows) == len(failed) > 0
    assert {row["reward"] for row in failed} == {None}
    assert {row["no_verdict_reason"] for row in failed} == {"ValueError: three is too many"}


def test_too_many_failures_end_the_run(custom, tmp_path):
    with pytest.raises(RunError, match=r"\d+ of 16 completions have no verdict.*no idea"):
        train(custom("never"))
    assert read_metrics(tmp_path / "run") == []
