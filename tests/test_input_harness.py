"""Damaged and hostile input is accepted or refused in one line, by every command."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_damaged_input_is_refused_in_one_line():
    command = [sys.executable, ROOT / "scripts/input_harness.py", "--seed", "3"]
    command += ["--share", "0.02", "--real", "0.1", "--limit", "600"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " cases tried, 0 failed" in done.stdout
