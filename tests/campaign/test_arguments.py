import contextlib

import pytest

from retrain_backends.config import read_arguments
from retrain_backends.errors import ConfigError
from retrain_campaign.arguments import OWN_FLAGS, asks_for_campaign, read_campaign
from retrain_campaign.plan.campaign import campaign_of

STEPS = "[campaign]\nseeds = [1]\nmax_steps = 5\n"
OWN_STEPS = """\
[[campaign.conditions]]
advantage_mode = "grpo"
transform_mode = "none"
name = "slow"
training.max_steps = 20
"""


@pytest.fixture
def here(tmp_path, leave_campaign):
    """A directory with a file of each kind, and a campaign."""
    (tmp_path / "c.toml").write_text("[campaign]\nseeds = [1, 2]\n[training]\nlr = 1.0\n")
    (tmp_path / "one.toml").write_text("[training]\nlr = 1.0\n")
    directory = leave_campaign(tmp_path / "logs/c1", {("a", 1): ("planned", [])})
    (directory / "campaign.toml").write_text("[campaign]\nseeds = [9]\n")
    (tmp_path / "logs/single").mkdir()
    with contextlib.chdir(tmp_path):
        yield tmp_path


def read(words):
    return read_arguments(words.split(), OWN_FLAGS)


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("c.toml", True),
        ("c.toml --lr 1e-3", True),
        ("c.toml --resume", True),
        ("c.toml --resume logs/c1", True),
        ("--resume logs/c1", True),
        ("--resume=logs/c1", True),
        ("logs/c1", True),
        ("one.toml --campaign-seeds 1,2", True),
        ("one.toml", False),
        ("c.toml --no-campaign", False),
        ("--resume logs/single", False),
        ("one.toml --resume logs/single", False),
        ("missing.toml", False),
        ("", False),
    ],
)
def test_what_means_a_campaign(here, words, answer):
    assert asks_for_campaign(read(words)) is answer


@pytest.mark.parametrize(
    ("words", "file", "resume", "directory", "execute"),
    [
        ("c.toml", "c.toml", False, None, True),
        ("c.toml --resume", "c.toml", True, None, True),
        ("--resume c.toml", "c.toml", True, None, True),
        ("c.toml --resume logs/c1", "c.toml", True, "logs/c1", True),
        ("--resume=logs/c1 c.toml", "c.toml", True, "logs/c1", True),
        ("logs/c1", "logs/c1/campaign.toml", True, "logs/c1", True),
        ("--resume logs/c1", "logs/c1/campaign.toml", True, "logs/c1", True),
        ("--config c.toml", "c.toml", False, None, False),
        ("--config=one.toml --execute", "one.toml", False, None, True),
    ],
)
def test_what_is_asked_for(here, words, file, resume, directory, execute):
    asked = read_campaign(read(words))
    found = (str(asked.file), asked.resume, asked.directory and str(asked.directory))
    assert found == (file, resume, directory)
    assert asked.execute is execute


def test_the_older_flags(here):
    words = "--config one.toml --seeds 1,2,3 --max-steps 7 --wandb-project mine --lr 0.5"
    asked = read_campaign(read(words))
    campaign = campaign_of(asked.config, asked.file)
    assert (campaign.seeds, campaign.max_steps, len(campaign.conditions)) == ((1, 2, 3), 7, 5)
    assert (campaign.base.logging.wandb_project, campaign.base.training.lr) == ("mine", 0.5)


def test_flags_change_a_campaign_that_is_gone_on_with(here):
    asked = read_campaign(read("logs/c1 --seeds=9,10 --campaign-parallel"))
    assert asked.config.campaign.seeds == (9, 10)
    assert asked.config.campaign.parallel


@pytest.mark.parametrize("flag", ["--max-steps", "--training-max-steps", "--campaign-max-steps"])
@pytest.mark.parametrize("words", ["c.toml", "logs/c1"])
def test_every_flag_for_the_steps_applies_to_all_runs(here, words, flag):
    (here / "c.toml").write_text(STEPS)
    (here / "logs/c1/campaign.toml").write_text(STEPS)
    asked = read_campaign(read(f"{words} {flag} 7"))
    assert asked.config.campaign.max_steps == 7


def test_a_flag_that_a_condition_overrides_is_refused_on_resume(here):
    (here / "logs/c1/campaign.toml").write_text(STEPS + OWN_STEPS)
    line = "--max-steps: `slow` sets training.max_steps itself, so that the flag would not change"
    with pytest.raises(ConfigError, match=line):
        read_campaign(read("logs/c1 --max-steps 7"))
    (here / "c.toml").write_text(STEPS + OWN_STEPS)
    assert read_campaign(read("c.toml --max-steps 7")).config.campaign.max_steps == 7


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("c.toml --max-steps 3 --campaign-max-steps 4", "--max-steps and --campaign-max-steps: b"),
        ("c.toml --seed 1", r"--seed: a campaign has several; --seeds 1,2,3 sets them"),
        ("c.toml --advantage-mode grpo", r"--advantage-mode: each condition .* has its own"),
        ("c.toml --adapter-path x", r"--adapter-path: each run of a campaign has its own"),
        ("c.toml --seeds 1,1", r"--seeds is `\[1, 1\]`; it must be a list of at least"),
        ("c.toml --seeds", r"--seeds: needs a value"),
        ("c.toml --campaign-max-workers=-1", r"--campaign-max-workers is `-1`; it must be an in"),
        ("c.toml --campaign-executor rya", r'must be one of "process", "ray", "slurm"; did you'),
        ("logs/single", r"logs/single: is not a campaign \(it has no manifest.json of one\)"),
        ("c.toml --resume logs/single", r"logs/single: is not a campaign"),
        ("--config", r"--config: needs a value"),
        ("--config= --seeds 1", r"--config: needs a value"),
        ("--config --seeds 1,2", r"--config: needs a value"),
        ("missing.toml", r"missing.toml: no such file"),
    ],
)
def test_mistakes(here, words, line):
    with pytest.raises(ConfigError, match=line):
        read_campaign(read(words))
