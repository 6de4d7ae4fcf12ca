import threading

import pytest

from retrain_test_support.tinker.futures import Line, Outcome, Promises, RefusedError

PATIENCE_S = 10


@pytest.fixture
def errors():
    return []


@pytest.fixture
def promises(errors):
    running = Promises(errors.append, threads=4)
    yield running
    running.close()


def test_a_line_keeps_its_order_whatever_comes_first(promises):
    line, done = Line(promises, "model"), []
    submitted = [
        line.submit(number, lambda number=number: Outcome({"n": done.append(number)}))
        for number in (3, 2, 4)
    ]
    assert [promise.wait(0.05) for promise in submitted] == [None] * 3
    submitted.append(line.submit(1, lambda: Outcome({"n": done.append(1)})))
    assert all(promise.wait(PATIENCE_S) for promise in submitted)
    assert done == [1, 2, 3, 4]


def test_a_request_sent_twice_is_done_once(promises):
    line, done = Line(promises, "model"), []
    first, again = (line.submit(1, lambda: Outcome({"n": done.append(1)})) for _ in range(2))
    assert first is again
    assert first.wait(PATIENCE_S)
    assert done == [1]


def test_a_refused_request_leaves_the_line_moving(promises):
    def refuse():
        raise RefusedError("no such thing", "user")

    line = Line(promises, "model")
    refused = line.submit(1, refuse)
    after = line.submit(2, lambda: Outcome({"ok": True}))
    assert refused.wait(PATIENCE_S) == Outcome({"error": "no such thing", "category": "user"})
    assert after.wait(PATIENCE_S) == Outcome({"ok": True})


def test_lines_do_not_wait_for_each_other(promises):
    gate = threading.Event()

    def wait():
        assert gate.wait(PATIENCE_S)
        return Outcome({})

    slow = Line(promises, "slow").submit(1, wait)
    quick = Line(promises, "quick").submit(1, lambda: Outcome({}))
    assert quick.wait(PATIENCE_S)
    assert slow.wait(0) is None
    gate.set()
    assert slow.wait(PATIENCE_S)


def test_a_mistake_of_the_server_is_reported(promises, errors):
    promise = promises.submit(("key",), lambda: Outcome({"n": 1 // 0}))
    outcome = promise.wait(PATIENCE_S)
    assert outcome.json["category"] == "server"
    promises.close()
    assert [type(error) for error in errors] == [ZeroDivisionError]


def test_forgotten_requests_are_gone_and_their_numbers_stay_taken(promises):
    old = promises.submit(("key",), lambda: Outcome({}))
    promises.forget()
    assert promises.find(old.request_id) is None
    new = promises.submit(("key",), lambda: Outcome({}))
    assert new.request_id != old.request_id
    assert promises.find(new.request_id) is new
