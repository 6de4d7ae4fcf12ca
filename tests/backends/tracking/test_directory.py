from pathlib import Path

import pytest

from retrain_backends.errors import ConfigError
from retrain_backends.tracking.directory import claim_directory, free_directory


def test_every_run_gets_a_directory_of_its_own(tmp_path):
    claimed = [
        claim_directory(tmp_path / "logs/train", f"run {i}", setting="logging.log_dir")
        for i in range(3)
    ]
    assert [path.name for path in claimed] == ["train", "train-2", "train-3"]
    assert [(path / "config.toml").read_text() for path in claimed] == ["run 0", "run 1", "run 2"]


def test_the_free_directory_is_the_next_one_claimed(tmp_path):
    for name in ("train", "train-2", "train-3"):
        assert free_directory(tmp_path / "train", setting="logging.log_dir") == tmp_path / name
        claim_directory(tmp_path / "train", "", setting="logging.log_dir")


def test_an_empty_directory_is_used(tmp_path):
    assert claim_directory(tmp_path, "", setting="logging.log_dir") == tmp_path


@pytest.mark.parametrize("where", [".", "..", "/"])
def test_directory_of_something_else_is_refused(where):
    with pytest.raises(ConfigError, match=r"logging\.log_dir: .* name one"):
        claim_directory(Path(where), "", setting="logging.log_dir")


def test_a_file_in_the_way_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"backend\.adapter_path: cannot make the directory"):
        claim_directory(tmp_path / "file", "", setting="backend.adapter_path")


@pytest.mark.parametrize("below", [".", "a/b"])
def test_a_loop_of_symbolic_links_is_an_error(tmp_path, below):
    (tmp_path / "loop").symlink_to("loop")
    wanted = tmp_path / "loop" / below
    expected = r"logging\.log_dir: cannot make the directory .* name another one"
    with pytest.raises(ConfigError, match=expected):
        claim_directory(wanted, "", setting="logging.log_dir")
    with pytest.raises(ConfigError, match=expected):
        free_directory(wanted, setting="logging.log_dir")
