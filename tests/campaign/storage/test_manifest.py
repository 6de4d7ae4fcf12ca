import json
from contextlib import closing

import pytest

from retrain_campaign.storage.campaign_directory import CHANGES_FILE, MANIFEST_FILE
from retrain_campaign.storage.manifest import with_digest, without_digest
from retrain_campaign.storage.manifest_reader import read_manifest
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
    assert (directory / CHANGES_FILE).read_bytes().count(b"\n") == 3
    entry = read_manifest(directory).by_name()["a_s1"]
    assert (entry.status, entry.pid) == ("done", 7)
    lazy.write()
    [header] = (directory / CHANGES_FILE).read_text().splitlines()
    assert json.loads(header)["campaign"]["runs"] == []
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


@pytest.mark.parametrize("text", ['{"a": {"b": 1}}', '{\n "a": "ü"\n}'])
def test_a_digest_is_the_last_member_and_is_checked(text):
    sealed = with_digest(text)
    assert json.loads(sealed).keys() == {"a", "digest"}
    assert json.loads(without_digest(sealed.encode())) == json.loads(text)
    with pytest.raises(ValueError, match="its digest differs"):
        without_digest(sealed.replace("a", "b", 1).encode())
    with pytest.raises(ValueError, match="it has no digest"):
        without_digest(text.encode())
