from hashlib import sha256

import pytest

from retrain_backends.tracking.log_digests import (
    Mark,
    RunningDigest,
    intact_marks,
    mark_of,
    with_mark,
)


def marks_of(lines: list[bytes]) -> list[Mark]:
    """A mark after each line."""
    digest, marks = RunningDigest(), []
    for line in lines:
        digest.add(line)
        marks = with_mark(marks, digest.mark())
    return marks


def test_a_mark_covers_everything_before_it(tmp_path):
    (tmp_path / "log").write_bytes(b"one\ntwo\n")
    [mark] = mark_of(tmp_path / "log")
    assert mark == marks_of([b"one\n", b"two\n"])[-1]
    assert mark == Mark(bytes=8, lines=2, sha256=sha256(b"one\ntwo\n").hexdigest())
    assert mark_of(tmp_path / "other") == []


@pytest.mark.parametrize(
    ("content", "intact"),
    [
        (b"one\ntwo\nsix\n", 3),
        (b"one\ntwo\nsix\nten\n", 3),  # written after the last mark
        (b"one\ntwo\nsiX\n", 2),
        (b"one\nTwo\nsix\n", 1),
        (b"One\ntwo\nsix\n", 0),
        (b"one\ntwo\nsi", 2),
        (b"", 0),
    ],
)
def test_intact_marks_end_before_the_first_change(tmp_path, content, intact):
    (tmp_path / "log").write_bytes(content)
    with (tmp_path / "log").open("rb") as file:
        assert intact_marks(file, marks_of([b"one\n", b"two\n", b"six\n"])) == intact


def test_many_marks_are_thinned_and_the_last_one_stays():
    lines = [b"%d\n" % number for number in range(1000)]
    marks = marks_of(lines)
    assert len(marks) <= 64
    assert marks[-1].lines == 1000
    assert [mark.lines for mark in marks] == sorted({mark.lines for mark in marks})
