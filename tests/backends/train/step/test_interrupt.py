import signal
import threading

import pytest

from retrain_backends.train.step.interrupt import Terminated, finish_first, sigterm_interrupts

INT, TERM = signal.SIGINT, signal.SIGTERM


def work(done: list[str], *signals: signal.Signals) -> None:
    with finish_first():
        for number in signals:
            signal.raise_signal(number)
        done.append("work")


@pytest.mark.parametrize(
    ("signals", "raised", "expected"),
    [
        ([INT], KeyboardInterrupt, ["work"]),
        ([INT, INT], KeyboardInterrupt, []),
        ([TERM], Terminated, ["work"]),
        ([TERM, TERM, TERM], Terminated, ["work"]),  # schedulers may repeat it
        ([TERM, INT], KeyboardInterrupt, []),
        ([INT, TERM], KeyboardInterrupt, ["work"]),
    ],
)
def test_signals_wait_for_the_end_of_the_block(signals, raised, expected):
    done = []
    with sigterm_interrupts(), pytest.raises(KeyboardInterrupt) as caught:
        work(done, *signals)
    assert (done, caught.type) == (expected, raised)


def test_only_the_first_sigterm_is_raised():
    with sigterm_interrupts():
        with pytest.raises(Terminated):
            work([], TERM)
        signal.raise_signal(TERM)
        work([], TERM)
    assert signal.getsignal(TERM) is signal.SIG_DFL


def test_handler_is_put_back():
    before = signal.getsignal(signal.SIGINT)
    with finish_first():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_other_threads_just_run():
    done = []
    thread = threading.Thread(target=work, args=(done,))
    thread.start()
    thread.join()
    assert done == ["work"]


def test_a_program_keeps_its_own_handler_of_sigterm():
    received = []
    before = signal.signal(signal.SIGTERM, lambda *_: received.append("mine"))
    try:
        with sigterm_interrupts(), finish_first():
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == ["mine"]
