"""Whole campaigns: `python -m retrain_campaign` with real runs, on the fake backend."""

import json
import signal
import time

import pytest

from retrain_backends.tracking.journal import read_metrics, without_times
from retrain_backends.train.checks.training_evidence import missing_evidence
from retrain_campaign.storage.campaign_directory import is_campaign
from retrain_campaign.storage.manifest_reader import read_manifest

PATIENCE_S = 300
CAMPAIGN = """\
[campaign]
seeds = [1]
max_steps = 20
[[campaign.conditions]]
advantage_mode = "grpo"
transform_mode = "none"
[[campaign.conditions]]
name = "mine"
advantage_mode = "rewards.own_advantage"
transform_mode = "none"
training.lr = 0.1
"""
PLUGINS = """\
import os, time
from pathlib import Path
from retrain_backends.types import Verdict

class parity:
    def score(self, items):
        if os.environ.get("SLOW"):
            time.sleep(0.2)
        if os.environ.get("BROKEN") and "mine" in " ".join(__import__("sys").argv):
            raise SystemExit("this reward is broken")
        return [Verdict(float(len(item.completion) % 2)) for item in items]

def own_advantage(rewards):
    return rewards - rewards.mean()
"""

pytestmark = pytest.mark.slow


@pytest.fixture
def place(tmp_path, training_tables):
    (tmp_path / "c.toml").write_text(training_tables + CAMPAIGN)
    (tmp_path / "rewards.py").write_text(PLUGINS)
    return tmp_path


def said_by(process):
    return process.communicate(timeout=PATIENCE_S)[0]


def rows(directory):
    """The metrics of every run, all of which have trained."""
    assert not [
        missing_evidence(run) for run in (directory / "runs").iterdir() if missing_evidence(run)
    ]
    return {
        path.name: [without_times(row) for row in read_metrics(path)]
        for path in (directory / "runs").iterdir()
    }


def test_one_after_another_and_at_once_are_the_same(place, start_campaign):
    one = start_campaign("c.toml", "--campaign-directory=one")
    assert "2 runs (2 conditions x 1 seeds), one after another, in one" in said_by(one)
    words = ("--campaign-directory=two", "--campaign-parallel", "--campaign-max-workers=2")
    two = start_campaign("c.toml", *words, "--campaign-stagger-seconds=0.1")
    said = said_by(two)
    assert "2 at once" in said
    assert "[2/2]" in said
    assert (one.returncode, two.returncode) == (0, 0)
    first, second = rows(place / "one"), rows(place / "two")
    assert set(first) == {"grpo+none_s1", "mine_s1"}
    assert {len(found) for found in first.values()} == {20}
    assert first == second
    for name in first:
        configs = [
            (place / way / "runs" / name / "config.toml").read_text().replace(f'"{way}/', '"')
            for way in ("one", "two")
        ]
        assert configs[0] == configs[1]
    manifest = read_manifest(place / "two")
    assert {(entry.status, entry.attempts, entry.exit_code) for entry in manifest.runs} == {
        ("done", 1, 0)
    }
    assert manifest.runs[0].adapter == "runs/grpo+none_s1/final"
    assert manifest.runs[0].final_metrics["step"] == 19
    assert (place / "two/campaign.png").stat().st_size
    assert json.loads((place / "two/manifest.json").read_text())["runs"][0]["status"] == "done"


def test_ctrl_c_and_resume(place, start_campaign):
    words = ("c.toml", "--campaign-directory=c", "--campaign-parallel")
    process = start_campaign(*words, "--campaign-max-workers=2", SLOW="1")
    deadline = time.monotonic() + PATIENCE_S
    while not any(read_metrics(p) for p in (place / "c/runs").glob("*")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said = said_by(process)
    assert process.returncode == 130
    assert "waiting for 2 runs to save a checkpoint" in said
    assert "to resume: `retrain campaign c`" in said
    assert {entry.status for entry in read_manifest(place / "c").runs} == {"stopped"}
    again = start_campaign("c")
    assert "2 done; c" in said_by(again)
    assert again.returncode == 0
    assert {len(found) for found in rows(place / "c").values()} == {20}


def test_a_run_that_fails_is_reported_and_the_others_continue(place, start_campaign):
    process = start_campaign("c.toml", "--campaign-directory=c", BROKEN="1")
    said = said_by(process)
    assert process.returncode == 1
    assert "mine_s1: attempt 1 of 2 ended: exit code 1: " in said
    assert "failed: mine_s1: exit code 1: " in said
    assert "this reward is broken" in said
    assert "1 done, 1 failed; c" in said
    assert "1 of 2 runs are done and compared; missing:" in said
    assert is_campaign(place / "c")
    repaired = start_campaign("c.toml", "--resume=c")
    assert "2 done; c" in said_by(repaired)
    assert repaired.returncode == 0
