"""The tests that need MLX, in an environment that has it."""

import os
import subprocess

import pytest

from .conftest import ROOT

pytestmark = pytest.mark.slow


def test_in_an_environment_with_mlx(mlx_python):
    command = [mlx_python, "-m", "pytest", "-n", "0", "-m", "", "tests/backends/engines/mlx"]
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
