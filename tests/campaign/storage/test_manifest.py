import json
from contextlib import closing

import pytest

from retrain_backends.errors import ConfigError
from retrain_campaign.storage.campaign_directory import MANIFEST_FILE
from retrain_campaign.storage.manifest import CHANGES_FILE, read_manifest
from retrain_campaign.storage.manifest_store import ManifestStore


@pytest.fixture
def directory(tmp_path, leave_campaign):
    return leave_campaign(tmp_path / "c", {("a", 1): ("planned", []), ("b", 1): ("planned", [])})


@pytest.fixture
def store(directory):
    with closing(ManifestStore(directory, read_manifest(directory))) as store:
        yield store


@pytest.fixture
def lazy(directory):
    """A store that does not replace `manifest.json` again."""
    with closing(ManifestStore(directory, read_manifest(directory), share=1e-12)) as store:
        yield store


def test_every_change_is_on_the_disk_at_once(store, directory):
    for status in ("running", "failed", "planned", "done"):
        store.change("b_s1", status=status)
        assert read_manifest(directory).by_name()["b_s1"].status == status
        assert read_manifest(directory) == store.manifest


def test_a_change_is_a_line_when_the_manifest_was_written_just_now(lazy, directory):
    before = (directory / MANIFEST_FILE).read_bytes()
    lazy.change("a_s1", status="running", pid=7)
    lazy.change("a_s1", status="done")
    assert (directory / MANIFEST_FILE).read_bytes() == before
    assert (directory / CHANGES_FILE).read_bytes().count(b"\n") == 2
    entry = read_manifest(directory).by_name()["a_s1"]
    assert (entry.status, entry.pid) == ("done", 7)
    lazy.write()
    assert not (directory / CHANGES_FILE).exists()
    assert json.loads((directory / MANIFEST_FILE).read_text())["runs"][0]["status"] == "done"


def test_an_incomplete_last_line_is_ignored(lazy, directory):
    lazy.change("a_s1", status="running")
    lazy.change("a_s1", status="done")
    path = directory / CHANGES_FILE
    path.write_bytes(path.read_bytes()[:-5])
    assert read_manifest(directory).by_name()["a_s1"].status == "running"


def test_lines_that_the_manifest_holds_already_change_nothing(lazy, directory):
    """As after a kill between the replacement of the manifest and the removal of its changes."""
    lazy.change("a_s1", status="running")
    lazy.change("a_s1", status="done")
    changes = (directory / CHANGES_FILE).read_bytes()
    lazy.write()
    (directory / CHANGES_FILE).write_bytes(changes)
    assert read_manifest(directory) == lazy.manifest


def test_heartbeats_are_written_with_the_next_manifest(store, directory):
    store.heartbeat(["a_s1"])
    store.write()
    assert read_manifest(directory).by_name()["a_s1"].heartbeat
    assert read_manifest(directory).by_name()["b_s1"].heartbeat is None


def test_what_an_analysis_found(store, directory):
    store.set_squeeze({"recommended_rank": 32})
    assert read_manifest(directory).squeeze == {"recommended_rank": 32}


def test_not_a_campaign(tmp_path):
    with pytest.raises(ConfigError, match=r"is not a campaign \(it has no manifest.json\)"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("text", ["", "{", '{"runs": 3}', "[]"])
def test_a_manifest_that_is_damaged(directory, text):
    (directory / MANIFEST_FILE).write_text(text)
    with pytest.raises(ConfigError, match=r"manifest.json: is damaged "):
        read_manifest(directory)


def test_changes_that_are_damaged(directory):
    (directory / CHANGES_FILE).write_text("oops\n")
    line = r"manifest.log: is damaged .*; the runs themselves are intact: remove this file and resu"
    with pytest.raises(ConfigError, match=line):
        read_manifest(directory)
    (directory / CHANGES_FILE).unlink()
    assert len(read_manifest(directory).runs) == 2
