import json
import sys
from contextlib import chdir

import pytest

from retrain_backends.config import LoggingConfig
from retrain_backends.errors import PluginError
from retrain_backends.tracking.trackers import (
    TrackedRun,
    Tracking,
    check_trackers,
    open_tracking,
    tracker_names,
)


class Recorder:
    """Keeps what is logged."""

    def __init__(self):
        self.logged = []
        self.closed = False

    def log(self, step, figures):
        self.logged.append((step, sorted(figures)))

    def close(self):
        self.closed = True


def row(step: int) -> dict[str, object]:
    return {"step": step, "condition": "a+b", "loss": 0.5, "correct_rate": None}


def evaluation(step: int) -> dict[str, object]:
    return {"step": step, "condition": "a+b", "accuracy": 0.5}


TRAINED, EVALUATED, BOTH = ["train/loss"], ["eval/accuracy"], ["eval/accuracy", "train/loss"]


def test_each_step_is_sent_once_with_its_evaluation():
    one, two = Recorder(), Recorder()
    with Tracking([one, two], {0, 2}) as tracking:
        tracking.evaluation(evaluation(0))
        tracking.step(row(0))
        tracking.step(row(1))
        assert len(one.logged) == 2  # the second step is kept until its evaluation
        tracking.evaluation(evaluation(2))
        tracking.step(row(2))
    assert one.logged == [(0, EVALUATED), (1, TRAINED), (2, BOTH), (3, TRAINED)]
    assert (two.logged, one.closed, two.closed) == (one.logged, True, True)


def test_a_step_without_its_evaluation_is_sent_when_the_run_is_resumed(tmp_path):
    rows = [row(0), row(1)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (tmp_path / "eval.jsonl").write_text(json.dumps(evaluation(0)) + "\n")
    before, after = Recorder(), Recorder()
    with Tracking([before], {0, 2}) as tracking:
        tracking.evaluation(evaluation(0))
        tracking.step(row(0))
        tracking.step(row(1))
    assert before.logged == [(0, EVALUATED), (1, TRAINED)]
    with Tracking([after], {0, 2}) as tracking:
        tracking.replay(tmp_path)
        tracking.evaluation(evaluation(2))
    assert after.logged == [(0, EVALUATED), (1, TRAINED), (2, BOTH)]


def test_evaluations_that_were_made_under_other_settings_are_replayed_too(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row(s)) + "\n" for s in range(3)))
    (tmp_path / "eval.jsonl").write_text(json.dumps(evaluation(2)) + "\n")
    recorder = Recorder()
    Tracking([recorder], set()).replay(tmp_path)
    assert recorder.logged == [(1, TRAINED), (2, BOTH), (3, TRAINED)]


def test_without_trackers_nothing_is_read(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("not json\n")
    Tracking([], set()).replay(tmp_path)


PLUGINS = """
class Recorder:
    logged = []

    def __init__(self, run):
        self.run = run

    @classmethod
    def from_config(cls, run):
        return cls(run)

    def log(self, step, figures):
        Recorder.logged.append((self.run.name, step))

    def close(self):
        Recorder.logged.append("closed")


class FailsAtTheSecondStep(Recorder):
    def log(self, step, figures):
        if step == 2:
            raise OSError("no connection with the key s3cret")


class Unreachable(Recorder):
    def __init__(self, run):
        raise OSError("no such service")


class NoTracker:
    def log(self, step, figures): ...
"""


@pytest.fixture
def plugins(tmp_path_factory):
    """The name of a module of trackers in the working directory."""
    directory = tmp_path_factory.mktemp("trackers")
    name = f"module_of_{directory.name}"
    (directory / f"{name}.py").write_text(PLUGINS)
    path = sys.path.copy()
    with chdir(directory):
        yield name
    sys.path[:] = path


def tracked_run(directory, lines, *trackers: str) -> TrackedRun:
    logging = LoggingConfig(trackers=trackers)
    return TrackedRun(directory, "maxrl", logging, {"seed": 1}, lines.append)


def test_a_project_adds_wandb_to_the_trackers():
    assert tracker_names(LoggingConfig()) == ()
    assert tracker_names(LoggingConfig(wandb_project="p")) == ("wandb",)
    both = LoggingConfig(wandb_project="p", trackers=("mine.Tracker", "wandb"))
    assert tracker_names(both) == ("wandb", "mine.Tracker")


def test_trackers_are_plugins(plugins, tmp_path):
    lines = []
    names = [f"{plugins}.{name}" for name in ("Recorder", "FailsAtTheSecondStep", "Unreachable")]
    with open_tracking(tracked_run(tmp_path, lines, *names), ()) as tracking:
        for step in range(3):
            tracking.step(row(step))
    recorder = sys.modules[plugins].Recorder
    assert recorder.logged == [("maxrl", 1), ("maxrl", 2), ("maxrl", 3), "closed"]
    lost = "tracking failed, the run continues without it"
    unreachable, failed = lines
    assert unreachable.startswith(f"{names[2]}: {lost} (")
    assert "no such service" in unreachable
    assert failed.startswith(f"{names[1]}: {lost} (")


def test_built_in_trackers_are_not_imported_by_the_check():
    check_trackers(LoggingConfig(wandb_project="p", trackers=("wandb",)))


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("no_such_module.Tracker", "there is no module `no_such_module`"),
        ("{}.Missing", "has no `Missing`"),
        ("{}.NoTracker", "lacks `close`"),
    ],
)
def test_a_name_that_leads_to_no_tracker_is_refused(plugins, name, problem):
    with pytest.raises(PluginError, match=f"logging.trackers: .*{problem}"):
        check_trackers(LoggingConfig(trackers=(name.format(plugins),)))
