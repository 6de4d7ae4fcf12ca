"""Campaigns whose workers and controller are killed end as one that nobody killed."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "kills"), [("fake", 12)])
def test_killed_campaigns_end_as_the_undisturbed_one(backend, kills):
    command = [sys.executable, ROOT / "scripts/campaign_kills.py", "--backend", backend]
    command += ["--kills", str(kills)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "differing: none" in done.stdout


@pytest.mark.slow
def test_a_lost_update_is_a_difference():
    command = [sys.executable, ROOT / "scripts/campaign_kills.py", "--kills", "6"]
    done = subprocess.run(
        [*command, "--mutant", "Losing"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "differing: none" not in done.stdout
