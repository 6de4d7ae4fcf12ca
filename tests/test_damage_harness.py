"""Runs whose files were damaged are resumed exactly, say what is damaged, or are refused."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_no_damage_is_silent_or_ends_in_a_traceback():
    command = [sys.executable, ROOT / "scripts/damage_harness.py", "--cases", "60"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[0].split() == [
        "cases", "exact", "reported", "refused", "traceback", "silent",
    ]  # fmt: skip
