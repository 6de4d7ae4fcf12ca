import pytest

from retrain_backends.train.storage.fingerprints import Fingerprints, fingerprints_of, model_digests
from retrain_backends.types import Example

FULL = Fingerprints(examples="a", held_out="h", model={"weights": "1", "config.json": "2"})


@pytest.mark.parametrize(
    ("changes", "begins"),
    [
        ({"examples": "b"}, ["data.source: the examples have changed"]),
        ({"held_out": "i"}, ["eval: the held-out questions have changed"]),
        ({"model": {"weights": "3", "config.json": "2"}}, ["model.model: weights has changed"]),
        ({"model": {"config.json": "2"}}, ["model.model: weights has changed"]),
        # What is not known now cannot be compared, and a new file replaces none.
        ({"held_out": "", "model": {}}, []),
        ({"model": {**FULL.model, "new": "4"}}, []),
    ],
)
def test_changes_are_reported(changes, begins):
    found = list(FULL.differences(FULL.model_copy(update=changes)))
    assert [line[: len(begin)] for line, begin in zip(found, begins, strict=True)] == begins


def test_what_is_not_known_any_more_stays():
    now = Fingerprints(examples="a", model={"weights": "1"})
    assert FULL.renewed(now) == Fingerprints(examples="a", held_out="h", model={"weights": "1"})


def test_what_describes_a_model_in_words_is_no_part_of_it(tmp_path):
    for name in ("config.json", "README.md", ".gitattributes"):
        (tmp_path / name).write_text("{}")
    assert list(model_digests(str(tmp_path))) == ["config.json"]


def test_of_a_model_that_is_not_here_nothing_is_known():
    found = fingerprints_of("nobody/has-this-model", "a", [])
    assert found == Fingerprints(examples="a")
    assert fingerprints_of("nobody/has-this-model", "a", [Example("1", "2")]).held_out
