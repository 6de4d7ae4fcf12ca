import json

import pytest

from retrain_backends.train import train
from retrain_backends.train.checks.training_evidence import missing_evidence
from retrain_backends.types import Verdict


class FirstSymbol:
    """1 for a completion that begins with the reference."""

    def score(self, items):
        return [Verdict(float(item.completion[:1] == item.example.reference)) for item in items]


class AlwaysRight:
    def score(self, items):
        return [Verdict(1.0) for _ in items]


@pytest.mark.parametrize(
    ("reward", "missing"),
    [
        (FirstSymbol, []),
        (
            AlwaysRight,
            [
                "no step has a loss",
                "no gradient was other than 0",
                "all rewards are equal",
                "the adapter is the initial one",
            ],
        ),
    ],
)
def test_a_run_shows_whether_it_trained(make_config, reward, missing):
    summary = train(make_config({"reward.type": f"{__name__}:{reward.__name__}"}))
    assert missing_evidence(summary.run_dir) == missing


def test_only_the_steps_that_are_compared_count(make_config, tmp_path):
    run = train(make_config({"reward.type": f"{__name__}:FirstSymbol"})).run_dir
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rows[-1]["loss"] = None
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "no step has a loss" in missing_evidence(run, 3)
    assert "no step has a loss" not in missing_evidence(run, 2)
