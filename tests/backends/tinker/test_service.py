from concurrent.futures import Future
from threading import Event

import pytest

from retrain_backends.tinker.service import call_with_timeout


def test_a_call_that_never_comes_back_is_given_up():
    over = Event()
    with pytest.raises(TimeoutError):
        call_with_timeout(over.wait, 0.05)
    over.set()


def test_an_answer_comes_at_once_or_as_a_future():
    later = Future()
    later.set_result("there")
    assert call_with_timeout(lambda: "there", 5) == call_with_timeout(lambda: later, 5) == "there"
    with pytest.raises(ZeroDivisionError):
        call_with_timeout(lambda: 1 / 0, 5)
