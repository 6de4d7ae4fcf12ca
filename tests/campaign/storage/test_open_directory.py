import contextlib
import os
from datetime import datetime
from pathlib import Path

import pytest
from filelock import FileLock

from retrain_backends.config import RunConfig, load_config
from retrain_backends.errors import ConfigError
from retrain_backends.tracking.log_digests import mark_of
from retrain_campaign.plan.campaign import campaign_of
from retrain_campaign.storage.find_directory import (
    earlier_directory,
    in_working_directory,
    new_directory,
)
from retrain_campaign.storage.manifest import write_manifest
from retrain_campaign.storage.manifest_reader import read_manifest
from retrain_campaign.storage.manifest_store import ManifestStore
from retrain_campaign.storage.open_directory import create_campaign, resume_campaign

RULE = {"advantage_mode": "grpo", "transform_mode": "none"}
OTHER = {"advantage_mode": "maxrl", "transform_mode": "none"}
ADAPTER = "runs/grpo+none_s1/final"
NOON = datetime(2026, 1, 2, 12, 0, 0)


@pytest.fixture(autouse=True)
def here(tmp_path):
    with contextlib.chdir(tmp_path):
        yield tmp_path


def campaign(conditions=(RULE,), tables=None, name="c.toml", **settings):
    settings = {"seeds": [1, 2], "conditions": list(conditions), **settings}
    return campaign_of(
        RunConfig.model_validate({**(tables or {}), "campaign": settings}), Path(name)
    )


def leave(made, directory=Path("logs/c"), **done):
    """Create a campaign without running it; `done` has values of entries by name."""
    with (
        create_campaign(made, directory, threads=1) as opened,
        contextlib.closing(ManifestStore(directory, opened.manifest)) as store,
    ):
        for name, values in done.items():
            store.change(name, **values)
        store.write()
    return directory


def test_a_new_campaign_is_named_by_the_time_beside_the_logs():
    assert new_directory(campaign(), NOON) == Path("logs/campaign_20260102_120000")
    elsewhere = campaign(tables={"logging": {"log_dir": "a/b/train"}})
    assert new_directory(elsewhere, NOON) == Path("a/b/campaign_20260102_120000")
    Path("logs/campaign_20260102_120000").mkdir(parents=True)
    assert new_directory(campaign(), NOON) == Path("logs/campaign_20260102_120000_2")


def test_the_directory_can_be_named_if_it_is_free():
    made = campaign(directory="mine")
    assert new_directory(made, NOON) == Path("mine")
    Path("mine").mkdir()
    assert new_directory(made, NOON) == Path("mine")
    leave(made, Path("mine/inside"))
    with pytest.raises(ConfigError, match=r"campaign.directory: `mine` exists already; name ano"):
        new_directory(made, NOON)
    with pytest.raises(ConfigError, match=r"resume it with `retrain campaign mine/inside`, or"):
        new_directory(campaign(directory="mine/inside"), NOON)


def test_a_directory_that_cannot_be_made():
    Path("file").touch()
    made = campaign()
    with pytest.raises(ConfigError, match="cannot create the campaign directory `file/c`"):
        leave(made, Path("file/c"))


def test_what_a_new_campaign_writes():
    directory = leave(campaign(tables={"logging": {"wandb_project": "p"}}))
    manifest = read_manifest(directory)
    assert (manifest.name, manifest.conditions, manifest.seeds) == ("c", ["grpo+none"], [1, 2])
    assert (manifest.max_steps, manifest.wandb_project, manifest.executor) == (500, "p", "process")
    assert [entry.status for entry in manifest.runs] == ["planned", "planned"]
    command = ["-m", "retrain_backends", "--resume", "logs/c/runs/grpo+none_s1"]
    assert manifest.runs[0].command[1:] == command
    assert os.access(directory / "run_all.sh", os.X_OK)
    file = directory / "campaign.toml"
    assert campaign_of(load_config(file), file).settings.seeds == (1, 2)


def test_resuming_keeps_what_is_done_and_plans_the_rest_again(leave_results):
    ended = {
        "grpo+none_s1": {"status": "done", "adapter": ADAPTER, "attempts": 1},
        "grpo+none_s2": {"status": "failed", "reason": "exit code 1", "attempts": 2, "pid": 3},
        "maxrl+none_s1": {"status": "running", "pid": 4, "attempts": 1},
        "maxrl+none_s2": {"status": "stopped", "reason": "interrupted"},
    }
    made = campaign([RULE, OTHER])
    directory = leave(made, **ended)
    leave_results(directory / "runs/grpo+none_s1", 500)
    with resume_campaign(directory, made) as opened:
        known = opened.manifest.by_name()
    assert {name: entry.status for name, entry in known.items()} == {
        "grpo+none_s1": "done",
        "grpo+none_s2": "planned",
        "maxrl+none_s1": "running",
        "maxrl+none_s2": "planned",
    }
    assert known["grpo+none_s1"].adapter == ADAPTER
    assert (known["grpo+none_s2"].attempts, known["grpo+none_s2"].pid) == (0, None)
    assert known["maxrl+none_s1"].pid == 4


def test_seeds_and_conditions_join(leave_results):
    directory = leave(campaign(), **{"grpo+none_s1": {"status": "done", "adapter": ADAPTER}})
    leave_results(directory / "runs/grpo+none_s1", 500)
    with resume_campaign(directory, campaign([RULE, OTHER], seeds=[1, 2, 3])) as opened:
        assert "changed: campaign.seeds: [1, 2] -> [1, 2, 3]" in opened.notes
        statuses = {entry.name: entry.status for entry in opened.manifest.runs}
        assert (opened.manifest.conditions, opened.manifest.seeds) == (
            ["grpo+none", "maxrl+none"],
            [1, 2, 3],
        )
    assert len(statuses) == 6
    assert statuses.pop("grpo+none_s1") == "done"
    assert set(statuses.values()) == {"planned"}


@pytest.mark.parametrize(
    ("lost", "what"),
    [
        (".", "its directory is gone"),
        ("final", "its adapter is gone"),
        ("metrics.jsonl", "metrics.jsonl has 0 of 500 steps"),
    ],
)
def test_a_finished_run_whose_results_are_gone_is_repeated(leave_results, lost, what):
    directory = leave(campaign(), **{"grpo+none_s1": {"status": "done", "adapter": ADAPTER}})
    run_dir = directory / "runs/grpo+none_s1"
    leave_results(run_dir, 500)
    (run_dir / lost).rename(directory / "elsewhere")
    with resume_campaign(directory, campaign()) as opened:
        assert opened.manifest.runs[0].status == "planned"
        assert opened.notes == (f"grpo+none_s1: was done, and is repeated: {what}",)


@pytest.mark.parametrize(
    ("entry", "then"),
    [
        ({"status": "done", "adapter": ADAPTER}, "it is left out of the comparison: delete "),
        ({"status": "stopped"}, "what it does about that is in "),
    ],
)
def test_logs_that_were_changed_since_are_named(leave_results, leave_state, entry, then):
    directory = leave(campaign(), **{"grpo+none_s1": entry})
    run_dir = directory / "runs/grpo+none_s1"
    leave_results(run_dir, 500)
    leave_state(run_dir, 500, logs={"metrics.jsonl": mark_of(run_dir / "metrics.jsonl")})
    (run_dir / "metrics.jsonl").write_text('{"step": 499, "loss": 1.0}\n')
    with resume_campaign(directory, campaign()) as opened:
        [note] = opened.notes
    assert note.startswith("grpo+none_s1: metrics.jsonl line 1 changed; ")
    assert f"; {then}{run_dir}" in note


def test_settings_that_were_edited_in_the_directory_are_compared_with_those_of_the_runs():
    directory = leave(campaign())
    path = directory / "campaign.toml"
    path.write_text(path.read_text().replace("lr = 4e-05", "lr = 4e-03"))
    edited = campaign_of(load_config(path), path)
    line = "training.lr: the campaign has 4e-5, not 0.004"
    with pytest.raises(ConfigError, match=line), resume_campaign(directory, edited):
        pass


def test_a_longer_campaign_continues_finished_runs():
    directory = leave(campaign(max_steps=5), **{"grpo+none_s1": {"status": "done"}})
    with resume_campaign(directory, campaign(max_steps=9)) as opened:
        assert {(e.status, e.max_steps) for e in opened.manifest.runs} == {("planned", 9)}
        assert "changed: campaign.max_steps: 5 -> 9" in opened.notes


@pytest.mark.parametrize(
    ("now", "lines"),
    [
        (
            campaign(tables={"training": {"lr": 0.5}, "sepa": {"steps": 7}}),
            [
                "sepa.steps: the campaign has 500, not 7; set it back, or start a new campaign by "
                "leaving out --resume logs/c",
                "training.lr: the campaign has 4e-5, not 0.5; set it back, or start a new campaign "
                "by leaving out --resume logs/c",
            ],
        ),
        (
            campaign([{**RULE, "gtpo": {"beta": 0.5}}, OTHER]),
            [
                "gtpo.beta: the campaign has 0.1, not 0.5 (grpo+none); set it back, or start a new "
                "campaign by leaving out --resume logs/c"
            ],
        ),
        (
            campaign([RULE, OTHER], max_steps=3),
            [
                "training.max_steps: the campaign has 500, not 3; set it back, or start a new "
                "campaign by leaving out --resume logs/c"
            ],
        ),
        (
            campaign([RULE, OTHER], seeds=[2]),
            [
                "[campaign] the campaign in logs/c has runs that are not in the file: "
                "grpo+none_s1, maxrl+none_s1; restore their seeds and conditions, or start a new "
                "campaign by leaving out --resume"
            ],
        ),
    ],
)
def test_another_campaign_is_refused_setting_by_setting(now, lines):
    directory = leave(campaign([RULE, OTHER]))
    if len(now.conditions) == 1:
        directory = leave(campaign(), Path("logs/d"))
        lines = [line.replace("logs/c", "logs/d") for line in lines]
    before = (directory / "campaign.toml").read_bytes()
    with pytest.raises(ConfigError) as refused, resume_campaign(directory, now):
        pass
    assert list(refused.value.problems) == lines
    assert (directory / "campaign.toml").read_bytes() == before


def test_how_runs_are_executed_may_change():
    directory = leave(campaign())
    ways = {"parallel": True, "max_workers": 3, "retries": 5}
    with resume_campaign(
        directory, campaign(tables={"logging": {"wandb_project": "p"}}, **ways)
    ) as opened:
        assert opened.manifest.wandb_project == "p"
        assert opened.plan[0].config.logging.wandb_group == "grpo+none"


def test_one_process_at_a_time(here):
    directory = leave(campaign())
    refused = pytest.raises(ConfigError, match="another process is running this campaign")
    with FileLock(directory / ".lock"), refused, resume_campaign(directory, campaign()):
        pass


def test_a_campaign_that_was_moved_is_resumed_where_it_is():
    leave(campaign())
    Path("logs/c").rename("moved")
    with resume_campaign(Path("moved"), campaign()) as opened:
        assert opened.manifest.runs[0].command[-1] == "moved/runs/grpo+none_s1"


def test_seen_from_another_directory_its_runs_work_where_they_did(here):
    directory = leave(campaign()).resolve()
    (here / "elsewhere").mkdir()
    with contextlib.chdir("elsewhere"), resume_campaign(directory, campaign()) as opened:
        assert opened.working_directory == here
        assert opened.manifest.runs[0].command[-1] == "logs/c/runs/grpo+none_s1"


def test_plugins_and_paths_are_found_where_its_runs_work(here):
    directory = leave(campaign())
    with in_working_directory(directory) as seen:
        assert (seen, Path.cwd()) == (directory, here)
    (here / "elsewhere").mkdir()
    with contextlib.chdir("elsewhere"):
        with in_working_directory(Path("../logs/c")) as seen:
            assert (seen, Path.cwd()) == (here / "logs/c", here)
        assert Path.cwd() == here / "elsewhere"


def test_its_runs_have_one_command_from_wherever_it_is_looked_at(here):
    directory = leave(campaign())
    (here / "link").symlink_to(here)
    with resume_campaign(here / "link" / directory, campaign()) as opened:
        assert opened.manifest.runs[0].command[-1] == "logs/c/runs/grpo+none_s1"


def test_the_newest_campaign_of_a_file():
    leave(campaign(), Path("logs/older"))
    newer = leave(campaign(), Path("logs/newer"))
    other = leave(campaign(name="d.toml"), Path("logs/other"))
    os.utime(newer / "manifest.json", (2**31, 2**31))
    os.utime(other / "manifest.json", (2**31 + 9, 2**31 + 9))
    assert earlier_directory(campaign()) == newer
    with pytest.raises(ConfigError, match="there is no campaign of `e` in logs"):
        earlier_directory(campaign(name="e.toml"))
    assert earlier_directory(campaign(directory="mine")) == Path("mine")


def test_a_manifest_that_cannot_be_read_does_not_hide_the_campaign(caplog):
    directory = leave(campaign())
    for name, text in (("damaged", "{"), ("foreign", '{"files": []}')):
        Path("logs", name).mkdir()
        Path("logs", name, "manifest.json").write_text(text)
        os.utime(Path("logs", name, "manifest.json"), (2**31, 2**31))
    assert earlier_directory(campaign()) == directory
    [said] = caplog.messages
    assert said.startswith("skipped: logs/damaged/manifest.json: is damaged")


def test_an_analysis_that_failed_is_repeated():
    directory = leave(campaign())
    for found, kept in [({"error": "no room"}, None), ({"recommended_rank": 2},) * 2]:
        manifest = read_manifest(directory).model_copy(update={"squeeze": found})
        write_manifest(directory, manifest)
        with resume_campaign(directory, campaign()) as opened:
            assert opened.manifest.squeeze == kept
