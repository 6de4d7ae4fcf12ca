import threading
from time import monotonic

import pytest

from retrain_backends.train.step.background import Background

SOON_S = 30.0


def test_work_is_done_in_a_thread_of_its_own():
    background = Background()
    assert background.start(threading.get_ident).result(SOON_S) != threading.get_ident()
    background.close()


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt()])
def test_what_it_raises_is_raised_where_it_is_asked_for(error):
    def work() -> None:
        raise error

    background = Background()
    with pytest.raises(type(error)) as caught:
        background.start(work).result(SOON_S)
    assert caught.value is error
    background.close()


def test_closing_waits_for_what_runs():
    background, go = Background(SOON_S), threading.Event()
    future = background.start(lambda: go.wait(SOON_S))
    go.set()
    background.close()
    assert future.done()


def test_closing_does_not_wait_for_what_is_stuck():
    background, go, started = Background(patience_s=0.05), threading.Event(), threading.Event()

    def stuck() -> None:
        started.set()
        go.wait(SOON_S)

    future = background.start(stuck)
    assert started.wait(SOON_S)
    asked = monotonic()
    background.close()
    assert not future.done()
    assert monotonic() - asked < SOON_S
    go.set()
    future.result(SOON_S)
