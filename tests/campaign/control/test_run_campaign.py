"""Campaigns whose runs are all done."""

import contextlib
import os
import signal
import sys
from pathlib import Path
from threading import Event, current_thread, main_thread

import pytest

from retrain_backends.config import read_arguments
from retrain_campaign.arguments import read_campaign
from retrain_campaign.control.run_campaign import run_campaign
from retrain_campaign.plan.campaign import campaign_of
from retrain_campaign.storage.manifest_reader import read_manifest
from retrain_campaign.storage.manifest_store import ManifestStore
from retrain_campaign.storage.open_directory import create_campaign

FILE = """\
[backend]
backend = "fake"
[reward]
type = "match"
[campaign]
seeds = [1]
[[campaign.conditions]]
advantage_mode = "rule_beside_the_file.own"
transform_mode = "none"
"""


@pytest.fixture
def done(tmp_path, leave_results):
    """A campaign whose runs are done, in `logs/c` of the working directory."""
    (tmp_path / "c.toml").write_text(FILE)
    (tmp_path / "rule_beside_the_file.py").write_text("def own(rewards):\n    return rewards\n")
    with contextlib.chdir(tmp_path):
        asked = read_campaign(read_arguments(["c.toml"]))
        campaign = campaign_of(asked.config, asked.file)
        with (
            create_campaign(campaign, Path("logs/c"), threads=1) as opened,
            contextlib.closing(ManifestStore(opened.directory, opened.manifest)) as store,
        ):
            for entry in list(store.entries):
                leave_results(opened.directory / entry.run_dir, 500)
                store.change(entry.name, status="done", adapter=f"{entry.run_dir}/final")
            store.write()
        yield tmp_path


def resume(*words):
    asked = read_campaign(read_arguments(words))
    campaign = campaign_of(asked.config, asked.file)
    return run_campaign(campaign, resume=asked.resume, directory=asked.directory)


def test_a_plugin_is_found_from_another_directory(done, capsys):
    (done / "sub").mkdir()
    with contextlib.chdir("sub"):
        assert resume("../logs/c") == 0
    assert f"1 done; {done}/logs/c" in capsys.readouterr().out
    assert resume("logs/c") == 0
    assert "1 done; logs/c" in capsys.readouterr().out


def test_an_interrupted_analysis_is_reported(done, capsys):
    (done / "logs/c/campaign.toml").write_text((done / "c.toml").read_text() + "[squeeze]\n")
    [run] = read_manifest(done / "logs/c").runs
    adapter = done / "logs/c" / run.adapter
    (adapter / "adapter_config.json").write_text("{}")
    (adapter / "adapter_model.safetensors").touch()
    over = Event()

    def interrupt(event, arguments):  # as soon as the analysis, in its thread, opens the adapter
        if event != "open" or over.is_set() or current_thread() is main_thread():
            return
        if str(arguments[0]).endswith("adapter_config.json"):
            os.kill(os.getpid(), signal.SIGINT)
            over.wait(60)

    sys.addaudithook(interrupt)
    try:
        code = resume("logs/c")
    finally:
        over.set()
    said = capsys.readouterr().out
    assert code == 130
    assert "interrupted: the analysis of an adapter was cancelled\n" in said
    assert "to resume: `retrain campaign logs/c`\n" in said
