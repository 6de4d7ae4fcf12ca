from contextlib import closing

import pytest

from retrain_backends.errors import ConfigError
from retrain_campaign.storage.campaign_directory import CHANGES_FILE, MANIFEST_FILE, is_campaign
from retrain_campaign.storage.manifest_reader import read_manifest
from retrain_campaign.storage.manifest_store import ManifestStore


@pytest.fixture
def directory(tmp_path, leave_campaign):
    """A campaign whose controller was killed: one run has ended since, by `manifest.log`."""
    runs = {("a", 1): ("done", [0.5] * 10), ("a", 2): ("running", [0.5]), ("a", 3): ("planned", [])}
    directory = leave_campaign(tmp_path / "c", runs)
    with closing(ManifestStore(directory, read_manifest(directory), share=1e-12)) as store:
        store.change("a_s2", status="failed", reason="exit code 1")
    return directory


def statuses(manifest):
    return [(entry.name, entry.status) for entry in manifest.runs]


def test_what_is_intact_has_no_problems(directory):
    manifest = read_manifest(directory)
    assert statuses(manifest) == [("a_s1", "done"), ("a_s2", "failed"), ("a_s3", "planned")]
    assert manifest.problems == []


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"format": 1, "runs": []}'])
def test_a_damaged_manifest_is_rebuilt(directory, text):
    before = read_manifest(directory)
    path = directory / MANIFEST_FILE
    path.unlink() if text is None else path.write_text(text)
    assert is_campaign(directory)
    found = read_manifest(directory)
    # What is only in `manifest.json` is read from the directory of the run, which is incomplete.
    assert statuses(found) == [("a_s1", "stopped"), ("a_s2", "failed"), ("a_s3", "planned")]
    [problem] = found.problems
    assert problem.startswith(f"{path}: is {'missing' if text is None else 'damaged ('}")
    shared = {"runs", "problems"}
    assert found.model_dump(exclude=shared) == before.model_dump(exclude=shared)


def test_every_changed_byte_is_noticed(directory):
    path = directory / MANIFEST_FILE
    whole, before = path.read_bytes(), read_manifest(directory)
    for position in range(0, len(whole) - 1, 41):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        assert read_manifest(directory).problems, position
    path.write_bytes(whole)
    assert read_manifest(directory) == before


def test_damaged_lines_of_the_log_are_skipped_and_named(directory):
    path = directory / CHANGES_FILE
    path.write_text(path.read_text().replace("exit code 1", "exit code 2"))
    found = read_manifest(directory)
    assert statuses(found)[1] == ("a_s2", "running")
    [problem] = found.problems
    assert problem.startswith(f"{path}: is damaged (line 2); the state of the runs was read from")


def test_a_missing_log_is_named(directory):
    (directory / CHANGES_FILE).unlink()
    [problem] = read_manifest(directory).problems
    assert problem.startswith(f"{directory / CHANGES_FILE}: is missing; ")


def test_without_both_files_there_is_nothing_to_rebuild_from(directory):
    (directory / MANIFEST_FILE).write_text("{")
    (directory / CHANGES_FILE).write_text("oops\n")
    line = (
        r"manifest.json: is damaged .*, and manifest.log is damaged \(line 1\); start the campaign"
    )
    with pytest.raises(ConfigError, match=line):
        read_manifest(directory)


def test_not_a_campaign(tmp_path):
    with pytest.raises(ConfigError, match=r"is not a campaign \(it has no manifest.json\)"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("name", [MANIFEST_FILE, CHANGES_FILE])
def test_a_file_that_cannot_be_read(directory, name):
    (directory / name).unlink()
    (directory / name).symlink_to(name)  # a loop
    with pytest.raises(ConfigError, match=rf"{name}: cannot be read \(Too many levels of symb"):
        read_manifest(directory)
