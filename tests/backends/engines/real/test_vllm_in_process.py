"""vLLM in the process that trains, in an environment of its own."""

import numpy as np
import pytest

from retrain_backends.config import load_config
from retrain_backends.tracking.journal import read_metrics
from retrain_backends.train import train

from ..conftest import QUICKSTART

LAST = 5

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sampled(in_process):
    return in_process("sampling")


@pytest.fixture(scope="module")
def trained(in_process):
    return in_process("training")


def test_log_probs_are_those_of_teacher_forcing_for_every_adapter(sampled):
    """The prompts are the same each time, so their prefix is in vLLM's cache."""
    for version in sampled["versions"]:
        assert version["distance"] < 1e-4
        assert version["moved"] > 0.01
    first, *_, last = (version["tokens"] for version in sampled["versions"])
    assert first != last


def test_groups_are_whole_and_end_at_stop_tokens(sampled):
    for version in sampled["versions"]:
        assert set(version["sizes"]) == {4}
        for reason, token, length in version["ends"]:
            assert (token == 0) if reason == "stop" else (length == 12)


def test_what_was_abandoned_does_not_come_back(sampled):
    assert sampled["seeded"]


@pytest.mark.parametrize(
    ("number", "line"),
    [
        (0, "vLLM in this process refuses a prompt of "),
        (1, "vLLM in this process: its engine has died; its own messages above say why"),
    ],
)
def test_errors_are_one_line(sampled, number, line):
    told = sampled["errors"][number]
    assert told.startswith(line)
    assert "\n" not in told


def test_a_run_learns_as_with_pytorch(trained, tmp_path):
    assert not trained["missing"]
    assert max(trained["differences"]) < 1e-4
    settings = {
        "model.lora_rank": 8,
        "training.max_steps": len(trained["rewards"]),
        "training.seed": 1,
        "eval.every": 0,
        "logging.log_dir": str(tmp_path / "run"),
    }
    rows = read_metrics(train(load_config(QUICKSTART, settings)).run_dir)
    expected = [row["mean_reward"] for row in rows]
    rewards = trained["rewards"]
    assert np.mean(rewards[-LAST:]) > np.mean(rewards[:LAST])
    assert np.mean(rewards[-LAST:]) == pytest.approx(np.mean(expected[-LAST:]), abs=0.2)
