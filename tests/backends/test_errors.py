from retrain_backends.errors import describe


class Silent(Exception):  # noqa: N818
    def __str__(self):
        raise ValueError("not even that")


def test_an_exception_is_one_line_of_limited_length():
    assert describe(ValueError("one\n  two")) == "ValueError: one two"
    assert describe(ValueError("x" * 1000), limit=3) == "ValueError: xxx"
    assert describe(ValueError()) == "ValueError"


def test_an_exception_that_cannot_say_what_it_is():
    assert describe(Silent()) == "Silent"
