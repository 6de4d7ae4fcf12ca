from concurrent.futures import Future, wait
from threading import Event

import pytest

from retrain_backends.waiting import Waiting, in_thread


def waiting(ask, limit_s=60.0):
    return Waiting("http://localhost", ask, limit_s, "timeout_s", check_s=0.001, patience_s=0.001)


def test_a_call_that_never_comes_back_is_given_up():
    over = Event()
    call = in_thread(over.wait)
    with pytest.raises(TimeoutError):
        waiting(lambda: None, 0.05).until(lambda most_s: wait([call], most_s).done, "scoring")
    over.set()


def test_an_answer_comes_at_once_or_as_a_future():
    later = Future()
    later.set_result("there")
    assert in_thread(lambda: "there").result(5) == in_thread(lambda: later).result(5) == "there"
    with pytest.raises(ZeroDivisionError):
        in_thread(lambda: 1 / 0).result(5)


def test_a_service_that_answers_is_waited_for_without_a_word(caplog):
    asked = []
    waiting(lambda: asked.append(1)).until(lambda _: len(asked) > 3, "scoring")
    assert not caplog.records


@pytest.mark.parametrize("dies", ["hangs", "refuses"])
def test_one_that_stops_answering_is_named_once_until_it_answers_again(caplog, dies):
    back = Event()

    def ask():
        if dies == "hangs":
            back.wait(60)
        elif not back.is_set():
            raise ConnectionError

    def ready(_):
        if caplog.records:
            back.set()
        return len(caplog.records) == 2

    waiting(ask).until(ready, "scoring")
    stopped, again = (record.getMessage() for record in caplog.records)
    assert stopped.startswith("waiting for http://localhost since ")
    assert "it does not answer (scoring); the run ends at " in stopped
    assert stopped.endswith("(timeout_s = 60)")
    assert again == "http://localhost answers again"
