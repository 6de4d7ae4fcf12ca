"""The next step is prepared while one trains, and the lag of its policy is recorded."""

import json
import threading
from pathlib import Path

import pytest

from retrain_backends.errors import InterruptedRunError, RunError
from retrain_backends.fake import FakeBackend
from retrain_backends.randomness import Purpose
from retrain_backends.tracking.journal import read_evaluations, read_metrics, without_times
from retrain_backends.train import train
from retrain_backends.train.checks.training_evidence import missing_evidence
from retrain_backends.types import Verdict

SOON_S = 30.0
OPTIONS = {"vocab_size": 13, "positions": 2, "buckets": 1}
AHEAD = {"backend.options": {**OPTIONS, "steps_off_policy": 1}}


class EveryOther:
    """1 for every second completion, so that every step trains."""

    def score(self, items):
        return [Verdict(float(index % 2)) for index in range(len(items))]


class AlwaysRight:
    def score(self, items):
        return [Verdict(1.0) for _ in items]


class CtrlC(EveryOther):
    """Ctrl-C in the third step."""

    calls = 0

    def score(self, items):
        self.calls += 1
        if self.calls == 3:
            raise KeyboardInterrupt
        return super().score(items)


class Watched(FakeBackend):
    """Notes how many updates were behind the policy that sampled each step."""

    seen: list[tuple[str, int, int]] = []  # noqa: RUF012 - a run makes its own instance

    def sample(self, requests, params):
        key = requests[0].key
        self.seen.append((key.purpose.name, key.step, self._updates))
        return super().sample(requests, params)


class Called(FakeBackend):
    """Notes the threads that call `sample`."""

    callers: set[str] = set()  # noqa: RUF012

    def sample(self, requests, params):
        self.callers.add(threading.current_thread().name)
        return super().sample(requests, params)


class Together(Watched):
    """Trains a step while the next one is half sampled."""

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self.begun, self.trained = ([threading.Event() for _ in range(5)] for _ in range(2))

    def sample(self, requests, params):
        groups = super().sample(requests, params)
        key = requests[0].key
        return groups if key.purpose != Purpose.SAMPLE or key.step == 0 else self.half(key, groups)

    def half(self, key, groups):
        for row in groups:
            yield row
            self.begun[key.step].set()
            assert self.trained[key.step - 1].wait(SOON_S)

    def train(self, batch):
        assert batch.step == 3 or self.begun[batch.step + 1].wait(SOON_S)
        result = super().train(batch)
        self.trained[batch.step].set()
        return result


class Apart(Watched):
    """Trains a step when the next one is sampled."""

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self.sampled = [threading.Event() for _ in range(5)]

    def sample(self, requests, params):
        return self.whole(requests[0].key, super().sample(requests, params))

    def whole(self, key, groups):
        yield from groups
        if key.purpose == Purpose.SAMPLE:
            self.sampled[key.step].set()

    def train(self, batch):
        assert batch.step == 3 or self.sampled[batch.step + 1].wait(SOON_S)
        return super().train(batch)


class Endless(FakeBackend):
    """Yields groups of step 2 until somebody has had enough."""

    ended: list[str] = []  # noqa: RUF012

    def sample(self, requests, params):
        groups = super().sample(requests, params)
        key = requests[0].key
        return self.again(groups) if (key.purpose, key.step) == (Purpose.SAMPLE, 2) else groups

    def again(self, groups):
        first = next(groups)
        try:
            while True:
                yield first
        finally:
            self.ended.append("closed")


class Broken(FakeBackend):
    def sample(self, requests, params):
        if (requests[0].key.purpose, requests[0].key.step) == (Purpose.SAMPLE, 2):
            raise RunError("the service is gone")
        yield from super().sample(requests, params)


class PressesCtrlC(Endless):
    """Ctrl-C while step 1 trains and step 2 is sampled."""

    def train(self, batch):
        if batch.step == 1:
            raise KeyboardInterrupt
        return super().train(batch)


def plugin(name: type) -> str:
    return f"{__name__}:{name.__name__}"


def generations(run_dir: Path, step: int) -> list[dict]:
    rows = (run_dir / "emergence/generations.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, rows) if row["step"] == step]


@pytest.fixture
def seen():
    Watched.seen.clear()
    yield Watched.seen
    Watched.seen.clear()


@pytest.fixture
def run(make_config):
    """`run(backend, **overrides)`: four steps."""

    def do(backend: type, reward: type = EveryOther, overrides: dict | None = None):
        parts = {"backend.backend": plugin(backend), "reward.type": plugin(reward)}
        return train(make_config({**parts, "backend.options": OPTIONS, **(overrides or {})}))

    return do


def sampled(seen, purpose: str = "SAMPLE") -> dict[int, int]:
    return {step: updates for name, step, updates in seen if name == purpose}


def test_on_policy_only_the_prompts_are_prepared(run, seen):
    summary = run(Watched)
    assert sampled(seen) == {0: 0, 1: 1, 2: 2, 3: 3}
    assert [row["steps_off_policy"] for row in read_metrics(summary.run_dir)] == [0] * 4
    assert [row["ratio_max"] for row in read_metrics(summary.run_dir)] == pytest.approx([1.0] * 4)


@pytest.mark.parametrize("backend", [Apart, Together])
def test_a_step_ahead_samples_from_the_policy_before_the_update(run, seen, backend):
    summary = run(backend, overrides=AHEAD)
    assert sampled(seen) == {0: 0, 1: 0, 2: 1, 3: 2}
    rows = read_metrics(summary.run_dir)
    assert [row["steps_off_policy"] for row in rows] == [0, 1, 1, 1]
    assert rows[0]["ratio_max"] == pytest.approx(1.0)
    assert all(row["ratio_max"] > 1.001 for row in rows[1:])
    assert all(row["mean_abs_logprob_diff"] > 0.001 for row in rows[1:])


def test_the_sampler_is_called_before_the_step_that_trains_beside_it(run):
    """In the thread of the loop; only taking its groups is left to another one."""
    Called.callers.clear()
    run(Called, overrides=AHEAD)
    assert Called.callers == {threading.current_thread().name}


def test_an_update_beside_the_sampling_is_not_in_it(run, seen):
    one, two = (run(backend, overrides=AHEAD) for backend in (Apart, Together))
    rows = [[without_times(row) for row in read_metrics(run.run_dir)] for run in (one, two)]
    assert rows[0] == rows[1]
    assert not missing_evidence(one.run_dir)


def test_what_a_step_samples_ahead_is_what_the_old_policy_would_have(run):
    # Nothing is learnt, so all policies are one: the streams are the same whoever samples.
    still = {"training.lr": 1e-12}
    here, ahead = run(Watched, overrides=still), run(Watched, overrides={**still, **AHEAD})
    for step in range(4):
        one, two = (generations(summary.run_dir, step) for summary in (here, ahead))
        assert [row["completion"] for row in one] == [row["completion"] for row in two]


def test_a_step_that_trains_nothing_leaves_the_next_one_on_policy(run):
    summary = run(Watched, AlwaysRight, AHEAD)
    assert [row["steps_off_policy"] for row in read_metrics(summary.run_dir)] == [0] * 4


def test_an_evaluation_asks_the_newest_policy(run, seen, make_config, tmp_path):
    held_out = tmp_path / "held_out.jsonl"
    held_out.write_text('{"question": "1", "answer": "1"}\n')
    asked = {"eval.every": 2, "eval.path": str(held_out), "eval.temperature": 1.0}
    one, two = (run(Watched, overrides={**asked, **more}) for more in ({}, AHEAD))
    evaluated = [updates for name, _, updates in seen if name == "EVALUATE"]
    assert evaluated == [0, 2, 4] * 2
    first = [read_evaluations(summary.run_dir)[0]["mean_reward"] for summary in (one, two)]
    assert first[0] == first[1]


def test_a_checkpoint_knows_nothing_of_what_is_sampled_beside_it(run, seen):
    every = run(Together, overrides={**AHEAD, "training.save_every": 1, "training.keep_last": 9})
    once = run(Together, overrides={**AHEAD, "training.save_every": 9})
    for name in ("policy.npy", "trainer/state.npz"):
        files = [run.run_dir / "checkpoints/step_000004" / name for run in (every, once)]
        assert files[0].read_bytes() == files[1].read_bytes()
    state = json.loads((every.run_dir / "checkpoints/step_000002/state.json").read_text())["state"]
    assert (state["steps_done"], state["prompts_drawn"], state["updates"]) == (2, 4, 2)


def test_a_resumed_run_starts_on_policy_and_reports_it(run, seen, tmp_path):
    whole = run(Watched, overrides={**AHEAD, "training.max_steps": 2})
    resumed = run(Watched, overrides={**AHEAD, "resume.from": str(whole.run_dir)})
    rows = read_metrics(resumed.run_dir)
    assert [row["steps_off_policy"] for row in rows] == [0, 1, 0, 1]
    assert rows[2]["ratio_max"] == pytest.approx(1.0)


@pytest.mark.parametrize("overrides", [{}, AHEAD])
def test_an_error_surfaces_as_itself_after_the_step_before(run, tmp_path, overrides):
    with pytest.raises(RunError, match=r"^the service is gone$"):
        run(Broken, overrides=overrides)
    assert len(read_metrics(tmp_path / "run")) == 2
    assert not threads()


def test_ctrl_c_ends_what_is_sampled_ahead(run, tmp_path):
    Endless.ended.clear()
    with pytest.raises(InterruptedRunError, match="after 1 steps"):
        run(PressesCtrlC, overrides=AHEAD)
    assert len(Endless.ended) == 1
    assert not threads()
    assert (tmp_path / "run/checkpoints/step_000001/policy.npy").is_file()


@pytest.mark.parametrize("overrides", [{}, AHEAD])
def test_no_thread_is_left(run, overrides):
    run(Watched, overrides=overrides)
    with pytest.raises(InterruptedRunError):
        run(Watched, CtrlC, overrides)
    assert not threads()


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "background"]
