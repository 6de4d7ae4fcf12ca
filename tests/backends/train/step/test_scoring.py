import json
import threading
from concurrent.futures import Future
from contextlib import chdir, closing
from dataclasses import replace

import numpy as np
import pytest

from retrain_backends.errors import RunError
from retrain_backends.fake import FakeBackend
from retrain_backends.rewards import RewardService
from retrain_backends.rewards.service import PendingVerdicts
from retrain_backends.tokenizer import load_tokenizer
from retrain_backends.tracking.journal import read_metrics
from retrain_backends.train import train
from retrain_backends.train.step.clock import StepClock
from retrain_backends.train.step.scoring import Judge
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
        return [Verdict(float(item.example.reference), text=item.completion) for item in items]


class Backwards(FakeBackend):
    """Finishes the last prompt first."""

    def sample(self, requests, params):
        yield from reversed(list(super().sample(requests, params)))


def completion(*tokens):
    return Completion(np.array(tokens), np.zeros(len(tokens)), "stop")


def prompts(*references):
    return [Prompt(Example("q", reference), "q", np.array([1])) for reference in references]


@pytest.fixture
def scoring(model_dir):
    tokenizer = load_tokenizer(str(model_dir))
    with closing(RewardService(Echo(), 0.0)) as service:
        yield Judge(service, tokenizer).scoring(prompts("1", "2"))


@pytest.fixture
def custom(make_config, tmp_path):
    """Makes configurations with a function of the user's as the reward."""
    (tmp_path / "scoring_functions.py").write_text(USER_MODULE)
    with chdir(tmp_path):
        yield lambda function, **others: make_config(
            {
                "reward.type": "custom",
                "reward.custom_module": "scoring_functions",
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
    assert scoring.groups() == groups
    assert scoring.texts() == ["0", "1", "2"]
    assert [(v.value, v.text) for v in scoring.verdicts()] == [(1.0, "0"), (1.0, "1"), (2.0, "2")]


def test_a_prompt_without_an_answer_has_no_completions(scoring):
    scoring.begin(1, [completion(4)])
    assert [len(group) for group in scoring.groups()] == [0, 1]
    assert [verdict.text for verdict in scoring.verdicts()] == ["2"]


class WhenAsked:
    """A reward whose verdicts are there when the test says so."""

    max_failure_rate = 0.5

    def __init__(self):
        self.futures = {}

    def submit(self, items):
        futures = [Future() for _ in items]
        self.futures[items[0].example.reference] = futures
        return PendingVerdicts(items, futures)


@pytest.fixture
def asked(model_dir):
    """A reward, the scoring of three prompts by it, and its judged groups."""
    reward = WhenAsked()
    scoring = Judge(reward, load_tokenizer(str(model_dir))).scoring(prompts("a", "b", "c"))
    return reward, scoring, scoring.judged(StepClock())


def judge(reward, name, value):
    for future in reward.futures[name]:
        future.set_result(Verdict(value))


def test_groups_are_there_as_soon_as_they_are_judged(asked):
    reward, scoring, judged = asked
    scoring.begin(2, [completion(2), completion(3)])
    scoring.begin(0, [completion(4)])
    reward.futures["c"][0].set_result(Verdict(1.0))
    judge(reward, "a", 0.0)
    first = next(judged)
    assert [prompt.example.reference for prompt in first.prompts] == ["a"]
    assert [verdict.value for verdict in first.known_verdicts()] == [0.0]
    scoring.begin(1, [completion(5)])
    reward.futures["c"][1].set_result(Verdict(None, "unknown"))
    judge(reward, "b", 0.5)
    second = next(judged)  # all that are judged by now, in the order of the prompts
    assert [prompt.example.reference for prompt in second.prompts] == ["b", "c"]
    assert [len(group) for group in second.groups()] == [1, 2]
    assert [verdict.value for verdict in second.known_verdicts()] == [0.5, 1.0, None]
    assert second.texts() == ["3", "0", "1"]
    scoring.end()
    assert list(judged) == []


def test_groups_that_are_judged_when_all_are_sampled(asked):
    reward, scoring, judged = asked
    scoring.begin(1, [completion(2)])
    scoring.end()
    threading.Timer(0.05, judge, (reward, "b", 1.0)).start()
    assert [len(part.prompts) for part in judged] == [1]


def test_with_too_many_failures_nobody_waits_for_the_others(asked):
    reward, scoring, judged = asked
    for index in range(3):
        scoring.begin(index, [completion(2)])
    judge(reward, "a", None)
    judge(reward, "c", None)
    assert [len(part.prompts) for part in [next(judged)]] == [2]  # more may be sampled
    scoring.end()
    assert list(judged) == []


def test_a_verdict_that_is_cancelled_is_no_error(asked, caplog):
    reward, scoring, _ = asked
    scoring.begin(0, [completion(2)])
    reward.futures["a"][0].cancel()
    assert not caplog.records


def test_a_reward_that_judges_a_step_together_has_no_groups_before(scoring):
    scoring.begin(0, [completion(2)])
    scoring.end()
    assert list(scoring.judged(StepClock())) == []


def test_planning_tokens_are_looked_for_once(scoring):
    class Counting:
        calls = 0

        def masks(self, completions):
            self.calls += len(completions)
            return [np.ones(len(tokens), np.bool_) for tokens in completions]

    scoring.begin(0, [completion(2), completion(3, 4)])
    detector = Counting()
    for _ in range(2):
        assert [mask.tolist() for mask in scoring.planning(detector)] == [[True], [True, True]]
    assert detector.calls == 2


def test_a_reward_sees_the_conversation(model_dir):
    class Messages:
        def score(self, items):
            return [Verdict(0.0, text=json.dumps(item.messages)) for item in items]

    asked = replace(prompts("1")[0], messages=({"role": "user", "content": "q"},))
    with closing(RewardService(Messages(), 0.0)) as service:
        scoring = Judge(service, load_tokenizer(str(model_dir))).scoring([asked])
        scoring.begin(0, [completion(4)])
        [verdict] = scoring.verdicts()
    answer = {"role": "assistant", "content": "2"}
    assert json.loads(verdict.text) == [{"role": "user", "content": "q"}, answer]


def test_a_function_of_the_users_trains(custom, capfd):
    one, two = (train(custom("first_symbol", **{"training.max_steps": 20})) for _ in range(2))
    assert one.last_rate > one.first_rate
    for name in ("emergence/steps.jsonl", "emergence/generations.jsonl"):
        assert (one.run_dir / name).read_bytes() == (two.run_dir / name).read_bytes()
    assert "looking at" not in "".join(capfd.readouterr())


def test_the_order_in_which_groups_finish_does_not_matter(custom):
    one = train(custom("first_symbol"))
    two = train(custom("first_symbol", **{"backend.backend": f"{__name__}:Backwards"}))
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
