"""What an import costs: heavy packages are loaded by the run that needs them, not by an import."""

import subprocess
import sys

import pytest

HEAVY = {"torch", "transformers", "datasets", "peft", "matplotlib", "tinker", "wandb"}


def loaded_by(module):
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "module",
    [
        "retrain_backends",
        "retrain_backends.__main__",
        "retrain_backends.config",
        "retrain_backends.testing",
        "retrain_backends.tracking.console",
        "retrain_campaign",
        "retrain_squeeze",
        "retrain_squeeze.__main__",
        "retrain_squeeze.run",
    ],
)
def test_nothing_heavy(module):
    assert loaded_by(module) & HEAVY == set()


@pytest.mark.parametrize(
    "module", ["retrain_backends", "retrain_campaign", "retrain_cli.app", "retrain_squeeze"]
)
def test_not_even_numpy(module):
    assert "numpy" not in loaded_by(module)
