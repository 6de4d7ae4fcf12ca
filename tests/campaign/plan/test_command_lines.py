import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrain_backends.config import RunConfig, dump_config, load_command_line, load_config
from retrain_campaign.plan.campaign import campaign_of, plan_runs
from retrain_campaign.plan.command_lines import command_line, flags_between, run_all_script

CONDITIONS = [
    {"advantage_mode": "grpo", "transform_mode": "none", "training": {"lr": 1e-05}},
    {
        "advantage_mode": "maxrl",
        "transform_mode": "gtpo_sepa",
        "data": {"path": 'it\'s "here"\n$HOME', "shuffle": False},
        "algorithm": {"params": {"x": None, "y": [1, "ü"]}},
        "eval": {"pass_k": [1, 2], "samples": 2, "temperature": 1.0},
    },
]


@pytest.fixture
def campaign(tmp_path):
    text = dump_config(
        RunConfig.model_validate({"campaign": {"seeds": [1, 2], "conditions": CONDITIONS}})
    )
    file = tmp_path / "c.toml"
    file.write_text(text)
    return campaign_of(load_config(file), file)


def test_the_command_of_a_run_makes_its_configuration(campaign):
    config = load_config(campaign.path)
    for run in plan_runs(campaign, Path("logs/c")):
        words = shlex.split(command_line(campaign.path, config, run, threads=2))
        assert words[:4] == ["OMP_NUM_THREADS=2", "python", "-m", "retrain_backends"]
        assert load_command_line(words[4:]) == run.config


def test_the_script_makes_the_same_configurations_elsewhere(campaign, tmp_path):
    """With `python` replaced by a program that notes what it was asked for."""
    plan = plan_runs(campaign)
    script = tmp_path / "run_all.sh"
    script.write_text(run_all_script(campaign, plan, threads=1))
    noting = tmp_path / "noting"
    noting.write_text(
        f'#!/bin/sh\nprintf "%s\\0" "$@" >> {tmp_path}/asked\nprintf "\\0" >> {tmp_path}/asked\n'
    )
    noting.chmod(0o755)
    environment = {"PYTHON": str(noting), "PATH": "/usr/bin:/bin"}
    for _ in range(2):  # what is done is not done again
        done = subprocess.run(
            ["sh", script, "there"], cwd=tmp_path, env=environment, capture_output=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, b"")
    asked = (tmp_path / "asked").read_text().removesuffix("\0\0").split("\0\0")
    assert len(asked) == len(plan)
    for run, words in zip(plan, asked, strict=True):
        arguments = [
            word.replace("there/base", f"{tmp_path}/there/base") for word in words.split("\0")
        ]
        logging = run.config.logging.model_copy(update={"log_dir": f"there/runs/{run.name}"})
        expected = run.config.model_copy(update={"logging": logging})
        assert load_command_line(arguments[2:]) == expected


def do_all(campaign, tmp_path, program, shell="sh", **environment):
    """The script of the campaign with a program in the place of `python`."""
    script, python = tmp_path / "run_all.sh", tmp_path / "python"
    script.write_text(run_all_script(campaign, plan_runs(campaign), threads=3))
    python.write_text(f"#!/bin/sh\n{program}\n")
    python.chmod(0o755)
    return subprocess.run(
        [shell, script],
        cwd=tmp_path,
        env={"PYTHON": str(python), "PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_script_tells_what_failed(campaign, tmp_path):
    done = do_all(campaign, tmp_path, "false")
    assert done.returncode == 1
    assert done.stderr.count("failed: rerun/runs/") == 4


@pytest.mark.parametrize("given", [{}, {"OMP_NUM_THREADS": "5"}])
def test_a_script_gives_runs_the_threads_of_the_campaign(campaign, tmp_path, given):
    done = do_all(campaign, tmp_path, 'echo "$OMP_NUM_THREADS"', **given)
    assert done.stdout.split() == [given.get("OMP_NUM_THREADS", "3")] * 4


@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize(
    ("run", "code"),
    [("kill -INT $PPID; exit 130", 130), ("kill -TERM $PPID; exit 143", 143), ("exit 143", 143)],
)
def test_a_script_that_is_interrupted_begins_no_other_run(campaign, tmp_path, shell, run, code):
    done = do_all(campaign, tmp_path, f"echo begun; {run}", shell)
    assert (done.returncode, done.stdout) == (code, "begun\n")
    assert done.stderr == "interrupted; the same command resumes\n"


def test_a_run_that_its_backend_ends_does_not_end_the_others(campaign, tmp_path):
    done = do_all(campaign, tmp_path, "echo begun; exit 130")
    assert (done.returncode, done.stdout.split()) == (1, ["begun"] * 4)


@given(st.floats(0, allow_infinity=False), st.booleans(), st.text().filter(str.isprintable))
def test_flags_say_exactly_what_differs(tmp_path_factory, lr, shuffle, path):
    file = tmp_path_factory.getbasetemp() / "empty.toml"
    file.touch()
    base = RunConfig()
    other = RunConfig.model_validate(
        {"training": {"lr": lr}, "data": {"shuffle": shuffle, "path": path}}
    )
    flags = list(flags_between(base, other))
    assert load_command_line([str(file), *flags]) == other
