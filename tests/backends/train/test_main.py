import json
import subprocess
import sys

import pytest

from retrain_backends.__main__ import main
from retrain_backends.config import dump_config


@pytest.fixture
def run_file(make_config, tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(dump_config(make_config({"training.max_steps": 2})))
    return path


def test_run_from_a_file_and_flags(run_file, tmp_path, capsys):
    assert main([str(run_file), "--seed", "8", "--log-dir", str(tmp_path / "other")]) == 0
    rows = (tmp_path / "other/metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == [0, 1]
    shown = capsys.readouterr().out
    assert "seed 8" in shown
    assert f"logs: {tmp_path / 'other'}" in shown


def test_wrong_configuration_is_exit_2_with_a_line_each(run_file, capsys):
    flags = ["--environment-provider", "verifiers", "--backpressure-enabled"]
    assert main([str(run_file), *flags]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("error: ") for line in lines)


def test_module_runs_without_the_command(run_file):
    command = [sys.executable, "-m", "retrain_backends", str(run_file), "--max-steps", "0"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: --max-steps")
