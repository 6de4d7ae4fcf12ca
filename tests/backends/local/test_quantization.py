"""torchao is in an environment of its own: if it is installed, transformers always imports it."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from retrain_test_support.environments import environment

ROOT = Path(__file__).parents[3]
DATE = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["uv"]["exclude-newer"]
CHECKS = Path(__file__).parent / "conformance.py"


@pytest.fixture(scope="session")
def torchao():
    """The directory of torchao's newest release that is allowed."""
    python = environment("torchao", ["torchao>=0.18"], date=DATE)
    [packages] = (python.parents[1] / "lib").glob("python*/site-packages")
    return str(packages)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "least", "most"),
    [
        (["kv_cache_dtype=int8"], 1e-5, 0.1),
        (["kv_cache_dtype=fp8"], 1e-4, 0.2),
        (["dtype=fp8"], 1e-4, 0.2),
        (["dtype=fp8", "kv_cache_dtype=int8"], 1e-4, 0.2),
        (["dtype=fp4"], 1e-3, 1.0),
    ],
    ids=str,
)
def test_completions_in_lower_precision_train(settings, least, most, torchao, tmp_path):
    """Their log-probs differ from the trainer's, by nats a token, and a step lowers the loss."""
    command = [sys.executable, str(CHECKS), str(tmp_path), *settings]
    path = {**os.environ, "PYTHONPATH": torchao}
    done = subprocess.run(
        command, env=path, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert least < float(done.stdout) < most
