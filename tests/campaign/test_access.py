"""Campaigns whose directories cannot be written end with one line."""

import os
import subprocess
import sys
import time

import pytest

# The superuser may write everything, unless it gives up that capability.
AS_USER = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
PATIENCE_S = 120
CAMPAIGN = """\
[campaign]
seeds = [1]
max_steps = 2
[[campaign.conditions]]
advantage_mode = "grpo"
transform_mode = "none"
"""
# Waits in its second call until the test has answered.
PLUGINS = """\
import time
from pathlib import Path
from retrain_backends.types import Verdict

class parity:
    def score(self, items):
        if Path("wait").exists():
            Path("waiting").touch()
            while Path("wait").exists():
                time.sleep(0.02)
        return [Verdict(float(len(item.completion) % 2)) for item in items]
"""


@pytest.fixture
def place(tmp_path, training_tables):
    (tmp_path / "c.toml").write_text(training_tables + CAMPAIGN)
    (tmp_path / "rewards.py").write_text(PLUGINS)
    yield tmp_path
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o700)


@pytest.fixture
def start(place):
    def run(*words):
        command = [*AS_USER, sys.executable, "-m", "retrain_campaign", *words]
        return subprocess.Popen(
            command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    return run


def make_unwritable(directory):
    for path in (*directory.rglob("*"), directory):
        path.chmod(path.stat().st_mode & ~0o222)


def test_a_directory_that_cannot_be_made(place, start):
    (place / "closed").mkdir(0o500)
    process = start("c.toml", "--campaign-directory=closed/c")
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2
    assert errors == (
        "error: cannot create the campaign directory `closed/c` (Permission denied); set "
        "campaign.directory to another one\n"
    )


def test_a_directory_that_cannot_be_looked_into(place, start):
    (place / "closed").mkdir(0)
    process = start("c.toml", "--campaign-directory=closed/c")
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2
    assert errors == (
        "error: campaign.directory: `closed/c` cannot be accessed (Permission denied); name "
        "another one\n"
    )


@pytest.mark.slow
def test_a_directory_that_becomes_unwritable(place, start):
    (place / "wait").touch()
    process = start("c.toml", "--campaign-directory=c")
    deadline = time.monotonic() + PATIENCE_S
    while not (place / "waiting").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    make_unwritable(place / "c")
    (place / "wait").unlink()
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    line = "cannot be accessed (Permission denied); make it accessible, then resume with "
    assert errors.count("\n") == 1
    assert f"{line}`retrain campaign c`; runs that have been started continue" in errors
    again = start("c")
    _, errors = again.communicate(timeout=PATIENCE_S)
    assert again.returncode == 1
    assert errors.count("\n") == 1
    assert line in errors
