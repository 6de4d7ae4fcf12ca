import contextlib
import shlex
from pathlib import Path

import pytest

from retrain_backends.config import load_command_line
from retrain_campaign.__main__ import main
from retrain_campaign.plan.campaign import campaign_of, plan_runs


@pytest.fixture
def here(tmp_path):
    (tmp_path / "c.toml").write_text('[backend]\nbackend = "fake"\n[reward]\ntype = "match"\n')
    with contextlib.chdir(tmp_path):
        yield tmp_path


def test_without_execute_the_commands_are_printed_and_nothing_is_written(here, capsys):
    assert main(["--config", "c.toml", "--seeds", "1,2", "--max-steps=3", "--wandb-project=p"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    assert [path.name for path in here.iterdir()] == ["c.toml"]
    config = load_command_line(shlex.split(lines[-1])[4:])
    assert (config.training.seed, config.training.max_steps) == (2, 3)
    assert config.logging.wandb_run_name == "maxrl+gtpo_sepa_s2"
    assert config.logging.log_dir.endswith("/runs/maxrl+gtpo_sepa_s2")


def test_the_printed_commands_are_the_runs_of_the_campaign(here, capsys):
    words = ["--seeds=1", "--wandb-project=mine", "--lr=5e-5", "--data-path=it's"]
    assert main(["--config", "c.toml", *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    printed = [load_command_line(shlex.split(line)[4:]) for line in lines]
    asked = load_command_line(["c.toml", "--campaign-seeds=1", *words[1:]])
    place = Path(printed[0].logging.log_dir).parents[1]
    planned = plan_runs(campaign_of(asked, Path("c.toml")), place)
    assert printed == [run.config for run in planned]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("c.toml --seeds 1,1", "--seeds is `[1, 1]`; it must be a list of at least one"),
        ("c.toml --campaign-directory=.", "campaign.directory: `.` exists already; name another"),
        ("c.toml --resume", "--resume: there is no campaign of `c` in logs; name its directory"),
        ("c.toml --resume nowhere", "nowhere: is not a campaign (it has no manifest.json of one)"),
        ("c.toml --data-source=no.such", "data.source: `no.such`: there is no module `no`"),
        ("c.toml --log-dir=c.toml/x/y", "cannot create the campaign directory `c.toml/x/ca"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_begun(here, capsys, words, line):
    assert main(words.split()) == 2
    out, errors = capsys.readouterr()
    assert out == ""
    assert errors.startswith(f"error: {line}")
    assert errors.count("\n") == 1
    assert [path.name for path in here.iterdir()] == ["c.toml"]
