import threading

from retrain_backends.train.step.clock import StepClock, Stopwatch


def test_a_part_that_is_measured_twice_is_the_sum():
    clock = StepClock()
    with clock("sample"):
        pass
    first = clock.parts_s["sample"]
    with clock("sample"):
        pass
    assert clock.parts_s["sample"] > first
    assert clock.elapsed_s() > clock.parts_s["sample"]


def test_a_stopwatch_runs_in_its_blocks_only():
    watch = Stopwatch()
    assert watch.total_s() == 0
    with watch():
        assert 0 < watch.total_s() < watch.total_s()
    assert watch.total_s() == watch.total_s() > 0


def test_blocks_of_two_threads_count_once():
    watch, inside, leave = Stopwatch(), threading.Event(), threading.Event()

    def other():
        with watch():
            inside.set()
            leave.wait(30)

    with watch():
        thread = threading.Thread(target=other)
        thread.start()
        inside.wait(30)
    assert watch.total_s() < watch.total_s()
    leave.set()
    thread.join()
    assert watch.total_s() == watch.total_s()


def test_waits_of_engine_and_trainer():
    watch = Stopwatch()
    with watch():
        clock = StepClock(watch)  # the engine samples already
        with clock("sample"):
            pass
        waits = clock.waits_s()
        assert waits["rollout_wait_s"] == clock.parts_s["sample"]
        busy_s = waits["engine_wait_s"]
    with clock("train"):
        pass
    assert clock.waits_s()["engine_wait_s"] >= busy_s + clock.parts_s["train"]
    assert clock.waits_s()["engine_wait_s"] <= clock.elapsed_s()


def test_without_an_engine_beside_the_trainer_nobody_waits():
    clock = StepClock()
    with clock("sample"):
        pass
    assert clock.waits_s() == {"rollout_wait_s": None, "engine_wait_s": None}
