import signal
import threading

import pytest

from retrain_backends.train.step.interrupt import Terminated, finish_first, sigterm_interrupts


def ctrl_c():
    signal.raise_signal(signal.SIGINT)


def work(done: list[str], presses: int) -> None:
    with finish_first():
        for _ in range(presses):
            ctrl_c()
        done.append("work")


@pytest.mark.parametrize(("presses", "expected"), [(1, ["work"]), (2, [])])
def test_ctrl_c_waits_for_the_end_of_the_block_but_only_once(presses, expected):
    done = []
    with pytest.raises(KeyboardInterrupt):
        work(done, presses)
    assert done == expected


def test_handler_is_put_back():
    before = signal.getsignal(signal.SIGINT)
    with finish_first():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_other_threads_just_run():
    done = []
    thread = threading.Thread(target=work, args=(done, 0))
    thread.start()
    thread.join()
    assert done == ["work"]


@pytest.mark.parametrize("signals", [1, 3])
def test_sigterm_waits_for_the_end_of_the_block_however_often_it_comes(signals):
    done = []
    with sigterm_interrupts():
        with pytest.raises(Terminated), finish_first():
            for _ in range(signals):
                signal.raise_signal(signal.SIGTERM)
            done.append("work")
        signal.raise_signal(signal.SIGTERM)  # the first one counts
    assert done == ["work"]


def test_ctrl_c_after_sigterm_interrupts_the_block():
    done = []
    with sigterm_interrupts(), pytest.raises(KeyboardInterrupt), finish_first():
        signal.raise_signal(signal.SIGTERM)
        ctrl_c()
        done.append("work")
    assert not done


def test_a_program_keeps_its_own_handler_of_sigterm():
    received = []
    before = signal.signal(signal.SIGTERM, lambda *_: received.append("mine"))
    try:
        with sigterm_interrupts(), finish_first():
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == ["mine"]
