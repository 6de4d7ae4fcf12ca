import json
from collections.abc import Callable

import numpy as np
import pytest

from retrain_backends.errors import ConfigError, InterruptedRunError, RunError
from retrain_backends.fake import FakeBackend
from retrain_backends.tracking.journal import read_evaluations, read_metrics
from retrain_backends.train import train
from retrain_backends.train.checks.training_evidence import missing_evidence
from retrain_backends.train.evaluate import Answers, evaluation_figures
from retrain_backends.types import Completion, Verdict

FIGURES = {
    "step", "condition", "temperature", "accuracy", "mean_reward", "pass_at_1", "pass_at_4",
    "num_questions", "num_completions", "no_verdict_count", "failed_questions",
    "max_token_hit_rate",
    "tokens_sampled", "time_s", "sample_s", "reward_s",
}  # fmt: skip


class FirstSymbol:
    """1 for a completion that begins with the reference."""

    def score(self, items):
        return [Verdict(float(item.completion[:1] == item.example.reference)) for item in items]


class HalfJudged(FirstSymbol):
    def score(self, items):
        verdicts = super().score(items)
        verdicts[1::2] = [Verdict(None, "too dark to read")] * len(verdicts[1::2])
        return verdicts


class NeverJudged:
    def score(self, items):
        return [Verdict(None, "the judge is asleep") for _ in items]


class CtrlC(FirstSymbol):
    """Ctrl-C in the `at`-th evaluation or step, counted from 0."""

    at = None
    calls = 0

    def score(self, items):
        self.calls += 1
        if self.calls - 1 == CtrlC.at:
            raise KeyboardInterrupt
        return super().score(items)


def centred(rewards_G):
    return rewards_G - rewards_G.mean()


def plugin(name: Callable[..., object]) -> str:
    return f"{__name__}:{name.__name__}"


@pytest.fixture
def evaluated(make_config, tmp_path):
    """`evaluated(**overrides)`: a run whose held-out questions are the digits 0 to 9, twice."""
    path = tmp_path / "held_out.jsonl"
    rows = [{"question": f"{i % 10}", "answer": str(i % 10)} for i in range(20)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    defaults = {
        "reward.type": plugin(FirstSymbol),
        "reward.max_failure_rate": 1.0,
        "eval.every": 3,
        "eval.path": str(path),
        "eval.samples": 4,
        "eval.pass_k": [1, 4],
    }

    def run(overrides=None):
        return train(make_config({**defaults, **(overrides or {})}))

    return run


def questions(summary, step):
    text = (summary.run_dir / f"eval/step_{step:06d}.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def timeless(rows):
    return [{key: row[key] for key in row if not key.endswith("_s")} for row in rows]


def test_evaluates_before_on_the_way_and_at_the_end(evaluated):
    summary = evaluated({"training.max_steps": 7})
    rows = read_evaluations(summary.run_dir)
    assert [row["step"] for row in rows] == [0, 3, 6, 7]
    assert all(row.keys() == FIGURES for row in rows)
    assert {(row["num_questions"], row["num_completions"]) for row in rows} == {(20, 80)}
    assert [e.step for e in summary.held_out] == [0, 3, 6, 7]
    assert [e.accuracy for e in summary.held_out] == [row["accuracy"] for row in rows]
    assert sorted(path.name for path in (summary.run_dir / "eval").iterdir()) == [
        f"step_{step:06d}.jsonl" for step in (0, 3, 6, 7)
    ]


def test_the_end_is_not_evaluated_twice(evaluated):
    summary = evaluated({"training.max_steps": 3})
    assert [row["step"] for row in read_evaluations(summary.run_dir)] == [0, 3]


def test_off_unless_asked_for(evaluated):
    summary = evaluated({"eval.every": 0, "eval.path": "nowhere"})
    assert summary.held_out == []
    assert not list(summary.run_dir.glob("eval*"))


def test_the_outcome_of_every_question_is_kept(evaluated):
    summary = evaluated({"training.max_steps": 1})
    [first, _] = read_evaluations(summary.run_dir)
    rows = questions(summary, 0)
    assert [row["index"] for row in rows] == list(range(20))
    assert [row["reference"] for row in rows] == [row["question"] for row in rows]
    assert all(len(row[key]) == 4 for row in rows for key in ("rewards", "num_tokens"))
    rewards = np.array([row["rewards"] for row in rows])
    assert first["accuracy"] == pytest.approx(rewards.mean())
    assert first["mean_reward"] == pytest.approx(rewards.mean())
    assert first["pass_at_4"] == pytest.approx(rewards.any(axis=1).mean())
    assert first["tokens_sampled"] == sum(sum(row["num_tokens"]) for row in rows)
    right = [text[:1] == row["reference"] for row in rows for text in row["completions"]]
    assert right == (rewards.ravel() == 1).tolist()


def test_learning_shows(evaluated):
    trained = {"training.max_steps": 40, "eval.every": 40}
    first, last = evaluated(trained).held_out
    # Training knows the digits 0 to 3 only, and this policy cannot carry over to the others.
    assert last.accuracy > first.accuracy + 0.2


def test_evaluating_changes_nothing_in_training(evaluated):
    rows = [
        timeless(read_metrics(evaluated(settings).run_dir))
        for settings in ({}, {"eval.every": 0}, {"eval.every": 1, "eval.samples": 8})
    ]
    for row in [row for run in rows for row in run]:
        del row["tokens_per_second"]
    assert rows[0] == rows[1] == rows[2]


def test_all_rules_are_judged_with_the_same_luck(evaluated):
    rules = [{}, {"algorithm.advantage_mode": "grpo", "algorithm.transform_mode": "none"}]
    runs = [evaluated(rule) for rule in rules]
    starts = [questions(run, 0) for run in runs]
    assert starts[0] == starts[1]
    assert questions(runs[0], 4) != questions(runs[1], 4)


def test_all_seeds_are_judged_on_the_same_questions(evaluated):
    starts = [
        questions(evaluated({"training.seed": seed, "eval.max_examples": 5}), 0) for seed in (1, 2)
    ]
    chosen = [[(row["index"], row["question"]) for row in rows] for rows in starts]
    assert chosen[0] == chosen[1]
    assert len(chosen[0]) == 5
    assert starts[0] != starts[1]


def test_how_many_are_sampled_at_a_time_changes_nothing(evaluated):
    few = {"training.batch_size": 1, "training.group_size": 2, "training.max_steps": 1}
    one, many = evaluated(few), evaluated({"training.batch_size": 64, "training.max_steps": 1})
    assert questions(one, 0) == questions(many, 0)


def test_the_temperature_is_that_of_training_unless_set(evaluated):
    summary = evaluated({"training.temperature": 0.5, "training.max_steps": 1})
    assert read_evaluations(summary.run_dir)[0]["temperature"] == 0.5
    greedy = {"eval.temperature": 0.0, "eval.samples": 1, "eval.pass_k": [1]}
    one, two = (questions(evaluated({"training.seed": 3, **greedy}), 0) for _ in range(2))
    assert one == two


def test_equal_samples_are_refused(evaluated):
    with pytest.raises(ConfigError, match=r"eval\.samples: `4` completions .* are all the same"):
        evaluated({"training.temperature": 0.0, "algorithm.advantage_mode": plugin(centred)})


def test_no_verdict_is_counted_and_never_zero(evaluated):
    summary = evaluated({"reward.type": plugin(HalfJudged), "training.max_steps": 1})
    row = read_evaluations(summary.run_dir)[0]
    rewards = [reward for question in questions(summary, 0) for reward in question["rewards"]]
    assert row["no_verdict_count"] == 40
    assert rewards[1::2] == [None] * 40
    assert row["accuracy"] == pytest.approx(np.mean(rewards[::2]))
    assert row["pass_at_4"] is None  # two verdicts a question
    assert questions(summary, 0)[0]["no_verdict_reasons"] == [None, "too dark to read"] * 2


def test_nothing_judged_has_no_figures(evaluated):
    summary = evaluated({"reward.type": plugin(NeverJudged), "training.max_steps": 1})
    row = read_evaluations(summary.run_dir)[0]
    assert [row[key] for key in ("accuracy", "mean_reward", "pass_at_1", "pass_at_4")] == [None] * 4
    assert summary.held_out == []


def test_too_many_without_a_verdict_stop_the_run(evaluated, tmp_path):
    with pytest.raises(RunError, match=r"80 of 80 completions have no verdict"):
        evaluated({"reward.type": plugin(NeverJudged), "reward.max_failure_rate": 0.2})
    assert read_evaluations(tmp_path / "run") == []


@pytest.fixture
def ctrl_c_at():
    """`ctrl_c_at(n)`: the reward `CtrlC` interrupts its n-th call from now on, None: no call."""

    def choose(number):
        CtrlC.at = number

    yield choose
    CtrlC.at = None


def test_ctrl_c_in_an_evaluation_keeps_the_steps(evaluated, tmp_path, ctrl_c_at):
    ctrl_c_at(4)
    with pytest.raises(InterruptedRunError, match="after 3 steps"):
        evaluated({"reward.type": plugin(CtrlC)})
    assert [row["step"] for row in read_evaluations(tmp_path / "run")] == [0]
    assert len(read_metrics(tmp_path / "run")) == 3


# Evaluation, three steps, evaluation, step, evaluation; the very first leaves nothing to resume.
@pytest.mark.parametrize("interrupted", [2, 3, 4, 5, 6])
@pytest.mark.parametrize("save_every", [1, 20])
def test_resuming_neither_repeats_nor_loses_an_evaluation(
    evaluated, tmp_path, ctrl_c_at, interrupted, save_every
):
    settings = {"reward.type": plugin(CtrlC), "training.save_every": save_every}
    whole = evaluated(settings | {"logging.log_dir": str(tmp_path / "whole")})
    ctrl_c_at(interrupted)
    with pytest.raises(InterruptedRunError):
        evaluated(settings)
    ctrl_c_at(None)
    resumed = evaluated(settings | {"resume.from": str(tmp_path / "run")})
    rows = [timeless(read_evaluations(run.run_dir)) for run in (whole, resumed)]
    assert rows[0] == rows[1]
    assert not missing_evidence(whole.run_dir)
    assert all(questions(whole, step) == questions(resumed, step) for step in (0, 3, 4))
    assert [e.accuracy for e in resumed.held_out] == [e.accuracy for e in whole.held_out]


def test_one_run_has_one_kind_of_evaluation(evaluated, tmp_path):
    longer = {"resume.from": str(tmp_path / "run"), "training.max_steps": 6, "eval.every": 2}
    evaluated()
    with pytest.raises(ConfigError, match=r"eval\.samples: the run in .* has 4, not 5"):
        evaluated(longer | {"eval.samples": 5})
    resumed = evaluated(longer)
    assert [row["step"] for row in read_evaluations(resumed.run_dir)] == [0, 3, 4, 6]


def test_a_run_that_never_evaluated_may_begin_to(evaluated, tmp_path):
    evaluated({"eval.every": 0, "eval.path": "", "eval.samples": 1, "eval.pass_k": [1]})
    resumed = evaluated({"resume.from": str(tmp_path / "run"), "training.max_steps": 6})
    assert [row["step"] for row in read_evaluations(resumed.run_dir)] == [6]


def test_figures_are_means_over_questions():
    def completion(length):
        return Completion(np.zeros(length, dtype=np.int64), np.zeros(length), "stop")

    groups = [[completion(1), completion(3)], [completion(2), completion(3)], [completion(3)] * 2]
    values = [1.0, 0.25, 1.0, None, None, None]
    verdicts = [Verdict(value) for value in values]
    figures = evaluation_figures(Answers(groups, [""] * 6, verdicts), 3, (1, 2))
    assert figures == {
        "accuracy": 0.75,
        "mean_reward": (0.625 + 1.0) / 2,
        "pass_at_1": 0.75,
        "pass_at_2": 1.0,  # of the first question, the only one with two verdicts
        "num_questions": 3,
        "num_completions": 6,
        "no_verdict_count": 3,
        "failed_questions": 0,
        "max_token_hit_rate": 4 / 6,
        "tokens_sampled": 15,
    }


def test_a_question_without_an_answer_is_left_out_and_counted():
    answered = [Completion(np.zeros(2, dtype=np.int64), np.zeros(2), "stop")]
    verdicts = [Verdict(1.0), Verdict(0.0)]
    whole = evaluation_figures(Answers([answered] * 2, [""] * 2, verdicts), 3, (1,))
    groups = [[], answered, answered, []]
    figures = evaluation_figures(Answers(groups, [""] * 2, verdicts), 3, (1,))
    assert figures == whole | {"num_questions": 4, "failed_questions": 2}


def test_an_evaluation_without_any_answer_has_no_rates():
    figures = evaluation_figures(Answers([[], []], [], []), 3, (1,))
    assert figures["failed_questions"] == figures["num_questions"] == 2
    rates = ("accuracy", "mean_reward", "pass_at_1", "max_token_hit_rate")
    assert [figures[rate] for rate in rates] == [None] * 4


class Deaf(FakeBackend):
    """Fails to answer every second question."""

    def sample(self, requests, params):
        return (row for row in super().sample(requests, params) if row[0] % 2 == 0)


def test_outcomes_stay_with_their_questions(evaluated):
    whole, halved = evaluated(), evaluated({"backend.backend": plugin(Deaf)})
    asked, answered = (questions(run, 0) for run in (whole, halved))
    assert [row["rewards"] for row in answered[1::2]] == [[]] * 10
    assert answered[::2] == asked[::2]
    [first, *_] = read_evaluations(halved.run_dir)
    assert (first["num_questions"], first["failed_questions"]) == (20, 10)
