"""Runs that are killed at random moments and resumed are the run that nobody killed."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "seeds", "first"), [("fake", 12, 0), ("local", 1, 100)])
def test_killed_runs_end_as_the_undisturbed_one(backend, seeds, first):
    command = [sys.executable, ROOT / "scripts/kill_harness.py", "--backend", backend]
    command += ["--seeds", str(seeds), "--first", str(first), "--jobs", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "differing: none" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("mutant", ["Losing", "Doubling"])
def test_a_lost_or_doubled_update_is_a_difference(mutant):
    command = [sys.executable, ROOT / "scripts/kill_harness.py", "--backend", "fake"]
    command += ["--seeds", "1", "--mutant", mutant]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "differing: [0]" in done.stdout
