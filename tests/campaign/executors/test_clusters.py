"""Real campaigns on a real Ray of this machine, and on submitit's executor for one machine."""

import json
import shutil
import signal
import time

import pytest

from retrain_backends.config import RunConfig
from retrain_backends.dotted_names import load_object
from retrain_backends.errors import ConfigError
from retrain_backends.tracking.journal import read_metrics
from retrain_backends.train.checks.training_evidence import missing_evidence
from retrain_campaign.control.run_campaign import EXECUTORS
from retrain_campaign.plan.campaign import campaign_of
from retrain_campaign.storage.manifest_reader import read_manifest

PATIENCE_S = 300
CAMPAIGN = """\
[campaign]
seeds = [1]
max_steps = 20
parallel = true
max_workers = 2
executor = "EXECUTOR"
executor_options = OPTIONS
[[campaign.conditions]]
advantage_mode = "grpo"
transform_mode = "none"
[[campaign.conditions]]
advantage_mode = "maxrl"
transform_mode = "gtpo"
"""
# Slow as long as there is a file that says so; one condition dies once.
REWARDS = """\
import os, sys, time
from pathlib import Path
from retrain_backends.types import Verdict

class parity:
    def score(self, items):
        if Path("slow").exists():
            time.sleep(0.2)
        if "maxrl+gtpo_s1" in " ".join(sys.argv) and Path("deadly").exists():
            Path("deadly").unlink()
            os.kill(os.getpid(), 9)
        return [Verdict(float(len(item.completion) % 2)) for item in items]
"""
CLUSTERS = {"ray": {"cpus": 0.5}, "slurm": {"cluster": "local"}}


@pytest.fixture
def place(tmp_path):
    (tmp_path / "rewards.py").write_text(REWARDS)
    return tmp_path


@pytest.fixture
def campaign(place, training_tables, start_campaign):
    """Start `python -m retrain_campaign WORDS` on a cluster."""

    def start(executor, *words):
        options = ", ".join(f"{k} = {json.dumps(v)}" for k, v in CLUSTERS[executor].items())
        told = CAMPAIGN.replace("EXECUTOR", executor).replace("OPTIONS", "{" + options + "}")
        (place / "c.toml").write_text(training_tables + told)
        return start_campaign(*words, RAY_AUTH_MODE="disabled")

    return start


def said_by(process):
    return process.communicate(timeout=PATIENCE_S)[0]


def steps(place):
    return [len(read_metrics(path)) for path in sorted((place / "c/runs").iterdir())]


@pytest.mark.slow
@pytest.mark.parametrize("executor", CLUSTERS)
def test_a_campaign_with_a_worker_that_dies(place, campaign, executor):
    (place / "deadly").touch()
    process = campaign(executor, "c.toml", "--campaign-directory=c")
    said = said_by(process)
    assert process.returncode == 0, said
    assert "2 done; c" in said
    entries = read_manifest(place / "c").by_name()
    assert [(e.status, e.attempts, e.exit_code) for e in entries.values()] == [
        ("done", 1, 0),
        ("done", 2, 0),
    ]
    assert all(entry.host and entry.pid and entry.job for entry in entries.values())
    assert steps(place) == [20, 20]


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["slurm"])  # both share this code, and it takes long
def test_ctrl_c_a_kill_and_going_on(place, campaign, executor):
    (place / "slow").touch()
    for number in (signal.SIGINT, signal.SIGKILL):
        words = ("c",) if (place / "c").exists() else ("c.toml", "--campaign-directory=c")
        before = sum(steps(place)) if (place / "c").exists() else 0
        process = campaign(executor, *words)
        deadline = time.monotonic() + PATIENCE_S
        while not (place / "c/runs").exists() or sum(steps(place)) <= before:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(number)
        said = said_by(process)
        assert process.returncode == (130 if number == signal.SIGINT else -9), said
    (place / "slow").unlink()
    process = campaign(executor, "c")
    said = said_by(process)
    assert process.returncode == 0, said
    assert steps(place) == [20, 20]
    assert not any(map(missing_evidence, (place / "c/runs").iterdir()))


@pytest.mark.parametrize(
    ("executor", "options", "line"),
    [
        ("ray", {"adress": "auto"}, r"\[campaign.executor_options\] adress .*; did you mean addr"),
        ("slurm", {"hours": 0}, r"\[campaign.executor_options\] hours is `0`; it must be a number"),
        ("slurm", {"cluster": "debug"}, r'it must be one of "slurm", "local"'),
    ],
)
def test_wrong_options(tmp_path, executor, options, line):
    config = RunConfig.model_validate({"campaign": {"executor_options": options}})
    with pytest.raises(ConfigError, match=line):
        load_object(EXECUTORS[executor]).from_campaign(campaign_of(config, tmp_path))


@pytest.mark.skipif(bool(shutil.which("sbatch")), reason="there is a Slurm here")
def test_a_machine_without_slurm(tmp_path):
    campaign = campaign_of(RunConfig.model_validate({"campaign": {}}), tmp_path)
    with pytest.raises(ConfigError, match="needs the command sbatch, which is not on this machine"):
        load_object(EXECUTORS["slurm"]).from_campaign(campaign)
