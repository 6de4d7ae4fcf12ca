"""Evaluations on the bundled model."""

import json
from pathlib import Path

import pytest

from retrain_backends.config import load_config
from retrain_backends.tracking.journal import read_evaluations
from retrain_backends.train import train

QUICKSTART = Path(__file__).parents[3] / "examples" / "quickstart.toml"


@pytest.fixture
def run(tmp_path):
    """`run(name, **overrides)`: one step of the quickstart, evaluated before and after."""

    def start(name, **overrides):
        settings = {
            "training.max_steps": 1,
            "training.batch_size": 3,
            "training.group_size": 6,
            "training.lr": 0.05,  # one step must change what is sampled from the same streams
            "eval.max_examples": 10,
            "logging.learning_curve": False,
            "logging.log_dir": str(tmp_path / name),
        }
        return train(load_config(QUICKSTART, settings | overrides))

    return start


def asked(summary, step):
    text = (summary.run_dir / f"eval/step_{step:06d}.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_before_training_all_seeds_and_rules_answer_alike(run):
    several = {"eval.samples": 4, "eval.pass_k": [1, 2, 4]}
    one = run("one", **several)
    other = run("other", **several, **{"training.seed": 7, "algorithm.transform_mode": "none"})
    assert asked(one, 0) == asked(other, 0)
    assert asked(one, 1) != asked(other, 1)
    first = read_evaluations(one.run_dir)[0]
    assert 0 < first["pass_at_1"] < first["pass_at_2"] < first["pass_at_4"] <= 1
    assert any(len(set(row["completions"])) > 1 for row in asked(one, 0))


def test_greedy_answers_do_not_depend_on_how_many_are_asked(run):
    greedy = {"eval.temperature": 0.0}
    few, many = run("few", **greedy, **{"eval.max_examples": 5}), run("many", **greedy)
    assert asked(few, 0) == asked(many, 0)[:5]
