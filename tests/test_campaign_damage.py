"""Campaigns whose directories were damaged are resumed exactly, or say what is damaged."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_no_damage_is_silent_or_a_traceback():
    command = [sys.executable, ROOT / "scripts/campaign_damage.py", "--cases", "12"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ", 0 traceback, 0 silent" in done.stdout
