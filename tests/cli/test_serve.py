import os
import subprocess
import sys

import pytest

FLAGS = ("--model=a/b", "--data-source=arithmetic", "--devices=cpu", "--lora-rank=4")


def test_the_command_of_a_configuration(retrain):
    code, shown, errors = retrain("serve", *FLAGS, "--engine", "vllm")
    assert (code, errors) == (0, "")
    assert shown.startswith("VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 vllm serve a/b --port 8000 --max-")


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ((), "inference.engine: `pytorch` has no server"),
        (
            ("--engine", "sglang", "--url", '["http://localhost", "http://localhost:1"]'),
            "several addresses",
        ),
    ],
)
def test_what_cannot_be_started(retrain, flags, line):
    code, _, errors = retrain("serve", *FLAGS, *flags, "--start")
    assert code == 2
    assert line in errors


@pytest.mark.parametrize("there", [True, False])
def test_the_server_is_started_in_place_of_the_command(tmp_path, there):
    program = tmp_path / "vllm"
    program.write_text('#!/bin/sh\necho "$VLLM_ALLOW_RUNTIME_LORA_UPDATING $*"\n')
    program.chmod(0o755 if there else 0o644)
    command = [sys.executable, "-c", "from retrain_cli.app import main; main()", "serve", *FLAGS]
    done = subprocess.run(
        [*command, "--engine", "vllm", "--start"],
        env={**os.environ, "PATH": f"{tmp_path}:/usr/bin:/bin"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    if there:
        assert done.stdout.splitlines()[1].startswith("1 serve a/b --port 8000 ")
    else:
        assert done.returncode == 2
        assert done.stderr.startswith("error: --start: there is no `vllm` here; install it")
