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


# A run, then the names of the modules that it has loaded; how it ended is not looked at.
RUN = """
import contextlib, sys
from retrain_cli.app import main

with contextlib.suppress(SystemExit):
    main(sys.argv[1:])
print(*sys.modules)
"""
SMALL = {
    "backend": "fake",
    "model": "builtin:tiny-arithmetic",
    "data-source": "arithmetic",
    "max-steps": "1",
    "batch-size": "1",
    "max-tokens": "2",
}


def loaded_by_command(directory, *words, **flags):
    """What a command line has loaded at its end, and what it has printed as errors."""
    (directory / "retrain.toml").touch()
    typed = [f"--{name}={value}" for name, value in flags.items()]
    done = subprocess.run(
        [sys.executable, "-c", RUN, *words, *typed],
        capture_output=True,
        text=True,
        check=True,
        cwd=directory,
    )
    return set(done.stdout.splitlines()[-1].split()), done.stderr


def test_a_run_elsewhere_needs_no_torch(tmp_path):
    loaded, _ = loaded_by_command(tmp_path, **SMALL)
    assert (tmp_path / "logs" / "train" / "final").exists()
    assert loaded & HEAVY <= {"matplotlib"}  # which draws the learning curve, at the end


@pytest.mark.parametrize("backend", ["fake", "local"])
def test_explaining_a_run_needs_none_either(tmp_path, backend):
    loaded, _ = loaded_by_command(tmp_path, "explain", **{**SMALL, "backend": backend})
    assert loaded & HEAVY == set()


def test_status_loads_nothing_of_a_run(tmp_path):
    loaded, _ = loaded_by_command(tmp_path, "status")
    assert loaded & {*HEAVY, "numpy", "huggingface_hub", "pydantic"} == set()


def test_a_missing_data_file_is_reported_first(tmp_path):
    wrong = {"backend": "local", "data-source": "jsonl", "data-path": "missing.jsonl"}
    loaded, errors = loaded_by_command(tmp_path, **{**SMALL, **wrong})
    assert errors.startswith("error: data.path")
    assert loaded & HEAVY == set()
