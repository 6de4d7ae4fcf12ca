import os
import random
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from time import monotonic, sleep

import pytest
from filelock import FileLock

from retrain_backends.errors import ConfigError, RunError
from retrain_backends.tinker.throttle import LockedFile, Queue, open_throttle

PATIENCE_S = 60

# Keeps a record of who is in, apart from the throttle: lines that the system appends in order.
WORKER = """
import os, sys, time
from retrain_backends.tinker.throttle import open_throttle

directory, record, name, slots, calls, hold_s = sys.argv[1:]
file = os.open(record, os.O_WRONLY | os.O_APPEND)
throttle = open_throttle(directory, int(slots))
for _ in range(int(calls)):
    with throttle.slot():
        os.write(file, f"in {name}\\n".encode())
        time.sleep(float(hold_s))
        os.write(file, f"out {name}\\n".encode())
os.write(file, f"done {name} {throttle.take_waited_s()}\\n".encode())
throttle.close()
"""


class Record:
    def __init__(self, path):
        self.path = path
        path.touch()

    def lines(self):
        return [line.split() for line in self.path.read_text().splitlines()]

    def add(self, *words):
        with self.path.open("a") as file:
            file.write(" ".join(words) + "\n")

    def names(self, event):
        return [line[1] for line in self.lines() if line[0] == event]

    def most_at_once(self):
        inside, most = set(), 0
        for event, name, *_ in self.lines():
            if event == "in":
                assert name not in inside
                inside.add(name)
            else:
                inside.discard(name)
            most = max(most, len(inside))
        assert not inside
        return most


@pytest.fixture
def record(tmp_path):
    return Record(tmp_path / "record")


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "throttle"


@pytest.fixture
def start(directory, record):
    """Start a process that makes calls: (name, slots, calls, hold_s) -> process."""
    processes = []

    def run(*arguments):
        command = [sys.executable, "-c", WORKER, directory, record.path, *map(str, arguments)]
        processes.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
        return processes[-1]

    yield run
    for process in processes:
        process.kill()
        process.wait()
        process.stderr.close()


def until(condition):
    ends = monotonic() + PATIENCE_S
    while not condition():
        assert monotonic() < ends, "it did not happen"
        sleep(0.005)


def tickets(directory):
    return sorted(path.name for path in directory.glob("*.ticket"))


def finish(processes):
    for process in processes:
        assert process.wait(PATIENCE_S) == 0, process.stderr.read()


def test_many_processes_share_a_few_turns(start, record, directory):
    names = [f"p{i}" for i in range(24)]
    throttle = open_throttle(str(directory), 4)
    with throttle.slot(), throttle.slot(), throttle.slot(), throttle.slot():
        processes = [start(name, 4, 6, 0.004) for name in names]
        until(lambda: len(tickets(directory)) == 28)
        assert record.lines() == []
    finish(processes)
    assert record.most_at_once() <= 4
    assert {name: record.names("in").count(name) for name in names} == dict.fromkeys(names, 6)
    assert sorted(record.names("done")) == sorted(names)
    assert tickets(directory) == []
    # Nobody came a second time before all had come once, but for those who shared the last turns.
    entered = record.names("in")
    again = next(i for i, name in enumerate(entered) if name in entered[:i])
    assert again >= 21


def test_turns_of_killed_processes_are_freed(start, record, directory):
    holders = [start(f"holder{i}", 3, 1, 600) for i in range(3)]
    until(lambda: len(record.names("in")) == 3)
    waiters = [start(f"waiter{i}", 3, 1, 600) for i in range(3)]
    until(lambda: len(tickets(directory)) == 6)
    living = [start(f"p{i}", 3, 2, 0.01) for i in range(5)]
    until(lambda: len(tickets(directory)) == 11)
    for process in waiters:
        process.kill()
        process.wait()
    for number, process in enumerate(holders):
        record.add("dying", f"holder{number}")
        process.kill()
        process.wait()
    finish(living)
    assert record.most_at_once() <= 3
    assert not any(name.startswith("waiter") for name in record.names("in"))
    assert tickets(directory) == []


def test_a_killed_campaign_leaves_nothing_that_matters(start, record, directory):
    killed = [start(f"p{i}", 2, 1, 600) for i in range(4)]
    until(lambda: len(tickets(directory)) == 4)
    for process in killed:
        process.kill()
        process.wait()
    throttle = open_throttle(str(directory), 7)  # with another number of slots
    assert tickets(directory) == []
    with throttle.slot():
        assert len(tickets(directory)) == 1


@pytest.mark.skipif(not hasattr(signal, "SIGINT") or os.name == "nt", reason="POSIX signals")
def test_ctrl_c_while_waiting_frees_the_ticket(start, record, directory):
    throttle = open_throttle(str(directory), 1)
    with throttle.slot():
        waiting = start("p", 1, 1, 0)
        until(lambda: len(tickets(directory)) == 2)
        waiting.send_signal(signal.SIGINT)
        waiting.wait(PATIENCE_S)
        assert "KeyboardInterrupt" in waiting.stderr.read()
        assert len(tickets(directory)) == 1
    assert record.lines() == []


def test_turns_come_in_order(directory):
    throttle = open_throttle(str(directory), 1)
    order = []

    def call(number):
        with throttle.slot():
            order.append(number)

    with ThreadPoolExecutor(12) as pool, throttle.slot():
        for number in range(12):
            pool.submit(call, number)
            until(lambda number=number: len(tickets(directory)) == number + 2)
    assert order == list(range(12))
    assert throttle.take_waited_s() > 0
    assert throttle.take_waited_s() == 0


def test_threads_of_a_process_share_turns_too(directory):
    throttle = open_throttle(str(directory), 3)
    lock, inside, most = threading.Lock(), [], []

    def call(number):
        with throttle.slot():
            with lock:
                inside.append(number)
                most.append(len(inside))
            sleep(0.002)
            with lock:
                inside.remove(number)

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(call, range(60)))
    assert len(most) == 60
    assert max(most) <= 3


@pytest.mark.parametrize("seed", range(5))
def test_the_queue_agrees_with_a_list(directory, seed):
    directory.mkdir()
    queue, model, rng = Queue(directory, 3), [], random.Random(seed)
    for _ in range(60):
        if not model or rng.random() < 0.55:
            model.append(LockedFile())
            queue.join(model[-1])
        elif rng.random() < 0.3:  # dies: its lock is free, its file stays
            dead = model[rng.randrange(len(model))]
            dead.lock.release()
            queue.remove_stale(LockedFile(directory / "~"))
            place = model.index(dead)
            assert dead.path.exists() == (place >= 3)
            if dead.path.exists():
                dead.path.unlink()
            model.remove(dead)
        else:
            queue.leave(model.pop(rng.randrange(len(model))))
        assert [queue.ahead(ticket) for ticket in model] == list(range(len(model)))
    for ticket in model:
        queue.leave(ticket)
    assert tickets(directory) == []


def test_without_a_directory_no_file_is_touched(tmp_path):
    before = sorted(tmp_path.iterdir())
    throttle = open_throttle("", 1)
    with throttle.slot(), throttle.slot():
        assert sorted(tmp_path.iterdir()) == before
    assert throttle.take_waited_s() == 0
    throttle.close()


def test_an_error_in_the_call_frees_its_turn(directory):
    throttle = open_throttle(str(directory), 1)
    with pytest.raises(ZeroDivisionError), throttle.slot():
        raise ZeroDivisionError
    assert tickets(directory) == []


def test_a_wait_without_movement_ends(directory):
    throttle = open_throttle(str(directory), 1, patience_s=0.05)
    with throttle.slot():
        with pytest.raises(RunError, match=r"none of the 1 calls in front ended for 0.05 s"):
            throttle.slot().__enter__()
        assert len(tickets(directory)) == 1


def test_closing_ends_waits(directory):
    throttle, other = (open_throttle(str(directory), 1) for _ in range(2))
    with ThreadPoolExecutor(1) as pool, other.slot():
        waiting = pool.submit(throttle.slot().__enter__)
        until(lambda: len(tickets(directory)) == 2)
        throttle.close()
        with pytest.raises(RunError, match="the run ended"):
            waiting.result(PATIENCE_S)
    other.close()
    assert [path.name for path in directory.iterdir()] == ["queue.lock"]


def test_all_must_reckon_with_the_same_number(directory):
    throttle = open_throttle(str(directory), 4)
    with pytest.raises(ConfigError, match=r"max_concurrent: 5, .* has 4; give all of them") as told:
        open_throttle(str(directory), 5)
    assert len(told.value.problems) == 1
    open_throttle(str(directory), 4).close()
    throttle.close()
    open_throttle(str(directory), 5).close()


def test_files_of_others_are_left_locked(directory):
    directory.mkdir()
    others = [directory / "movie.ticket", directory / "1.ticket", directory / "my.member"]
    for path in others:
        path.touch()
    throttle = open_throttle(str(directory), 1)
    with throttle.slot():
        pass
    throttle.close()
    assert all(path.exists() for path in others)


def test_a_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"throttle_dir: .* cannot be written \(Not a directory"):
        open_throttle(str(tmp_path / "file" / "throttle"), 4)


def test_a_directory_that_is_lost(directory):
    throttle = open_throttle(str(directory), 4)
    throttle.close()
    (directory / "queue.lock").unlink()
    directory.rmdir()
    directory.touch()
    with pytest.raises(RunError, match=r"throttle_dir: .* has become unusable: "):
        throttle.slot().__enter__()


def test_the_lock_of_the_queue_is_not_waited_for_while_searching(directory):
    directory.mkdir()
    queue, ticket = Queue(directory, 1), LockedFile()
    queue.join(ticket)
    with FileLock(directory / "queue.lock"):
        queue.remove_stale(ticket)
    queue.leave(ticket)


def test_importing_it_does_not_import_the_sdk():
    code = (
        "import sys, retrain_backends.tinker.throttle\n"
        "assert not {'tinker', 'torch', 'pydantic', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
