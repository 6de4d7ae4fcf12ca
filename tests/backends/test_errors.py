import errno

import pytest

from retrain_backends.errors import ConfigError, DataError, describe, error_of_file


class Silent(Exception):  # noqa: N818
    def __str__(self):
        raise ValueError("not even that")


def test_an_exception_is_one_line_of_limited_length():
    assert describe(ValueError("one\n  two")) == "ValueError: one two"
    assert describe(ValueError("x" * 1000), limit=3) == "ValueError: xxx"
    assert describe(ValueError()) == "ValueError"


def test_an_exception_that_cannot_say_what_it_is():
    assert describe(Silent()) == "Silent"


@pytest.mark.parametrize("kind", [ConfigError, DataError])
def test_a_message_is_one_printable_line(kind):
    assert str(kind("a\0b\nc\x1b[31m\u202e\udcff é")) == "a\\x00b\\nc\\x1b[31m\\u202e\\udcff é"


def test_a_long_message_keeps_its_beginning_and_its_end():
    (line,) = ConfigError("run.toml: " + "x" * 5000 + "; name another one").problems
    assert len(line) < 1010
    assert line.startswith("run.toml: xx")
    assert line.endswith("xx; name another one")


@pytest.mark.parametrize(
    ("number", "code", "line"),
    [
        (errno.ENAMETOOLONG, 2, "a.toml: cannot be used (File name too long)"),
        (errno.ELOOP, 2, "a.toml: cannot be used (Too many levels of symbolic links)"),
        (errno.ENOSPC, 1, "a.toml: cannot be used (No space left on device)"),
    ],
)
def test_an_error_of_the_operating_system(number, code, line):
    error = error_of_file(OSError(number, line[24:-1], "a.toml"))
    assert (str(error), error.exit_code) == (line, code)


def test_an_error_of_the_operating_system_without_a_file():
    error = error_of_file(ConnectionError("gone"))
    assert (str(error), error.exit_code) == ("ConnectionError: gone", 1)
