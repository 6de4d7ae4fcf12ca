import pytest

from retrain_campaign.storage.campaign_directory import MANIFEST_FILE, is_campaign


def test_a_directory_without_a_manifest(tmp_path):
    assert not is_campaign(tmp_path)


@pytest.mark.parametrize(("text", "is_one"), [("{", True), ("[]", False), ('{"runs": 3}', False)])
def test_which_manifests_are_of_campaigns(tmp_path, text, is_one):
    (tmp_path / MANIFEST_FILE).write_text(text)
    assert is_campaign(tmp_path) is is_one


def test_a_campaign(tmp_path, leave_campaign):
    assert is_campaign(leave_campaign(tmp_path / "c", {("a", 1): ("planned", [])}))
