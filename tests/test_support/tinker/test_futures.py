import threading

import pytest

from retrain_test_support.tinker.futures import FutureTable, Outcome, RefusedError, RequestQueue

PATIENCE_S = 10


@pytest.fixture
def errors():
    return []


@pytest.fixture
def futures(errors):
    running = FutureTable(errors.append, threads=4)
    yield running
    running.close()


def test_a_line_keeps_its_order_whatever_comes_first(futures):
    queue, done = RequestQueue(futures, "model"), []
    submitted = [
        queue.submit(number, lambda number=number: Outcome({"n": done.append(number)}))
        for number in (3, 2, 4)
    ]
    assert [future.wait(0.05) for future in submitted] == [None] * 3
    submitted.append(queue.submit(1, lambda: Outcome({"n": done.append(1)})))
    assert all(future.wait(PATIENCE_S) for future in submitted)
    assert done == [1, 2, 3, 4]


def test_a_request_sent_twice_is_done_once(futures):
    queue, done = RequestQueue(futures, "model"), []
    first, again = (queue.submit(1, lambda: Outcome({"n": done.append(1)})) for _ in range(2))
    assert first is again
    assert first.wait(PATIENCE_S)
    assert done == [1]


def test_a_request_sent_twice_is_done_twice_where_requests_are_forgotten(errors):
    futures, done = FutureTable(errors.append, lambda: True), []
    queue = RequestQueue(futures, "model")
    sent = [
        queue.submit(number, lambda number=number: Outcome({"n": done.append(number)}))
        for number in (1, 1, 2)
    ]
    assert all(future.wait(PATIENCE_S) for future in sent)
    assert done == [1, 1, 2]
    futures.close()


def test_a_refused_request_leaves_the_line_moving(futures):
    def refuse():
        raise RefusedError("no such thing", "user")

    queue = RequestQueue(futures, "model")
    refused = queue.submit(1, refuse)
    after = queue.submit(2, lambda: Outcome({"ok": True}))
    assert refused.wait(PATIENCE_S) == Outcome({"error": "no such thing", "category": "user"})
    assert after.wait(PATIENCE_S) == Outcome({"ok": True})


def test_lines_do_not_wait_for_each_other(futures):
    gate = threading.Event()

    def wait():
        assert gate.wait(PATIENCE_S)
        return Outcome({})

    slow = RequestQueue(futures, "slow").submit(1, wait)
    quick = RequestQueue(futures, "quick").submit(1, lambda: Outcome({}))
    assert quick.wait(PATIENCE_S)
    assert slow.wait(0) is None
    gate.set()
    assert slow.wait(PATIENCE_S)


def test_a_mistake_of_the_server_is_reported(futures, errors):
    future = futures.submit(("key",), lambda: Outcome({"n": 1 // 0}))
    outcome = future.wait(PATIENCE_S)
    assert outcome.json["category"] == "server"
    futures.close()
    assert [type(error) for error in errors] == [ZeroDivisionError]


def test_forgotten_requests_are_gone_and_their_numbers_stay_taken(futures):
    old = futures.submit(("key",), lambda: Outcome({}))
    futures.forget()
    assert futures.find(old.request_id) is None
    new = futures.submit(("key",), lambda: Outcome({}))
    assert new.request_id != old.request_id
    assert futures.find(new.request_id) is new
