import signal
import threading

import pytest

from retrain_backends.train.step.interrupt import finish_first


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
