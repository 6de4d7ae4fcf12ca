import json

import pytest

from retrain_backends.testing import TRACKER_CHECKS, TrackerCase


class FileTracker:
    """Keeps the steps in a file of the run's directory."""

    def __init__(self, run):
        self.path = run.directory / "tracked.jsonl"
        self.first = len(self.path.read_text().splitlines()) if self.path.exists() else 0
        self.seen = 0

    def log(self, step, figures):
        self.seen += 1
        if self.seen > self.first:
            with self.path.open("a") as file:
                file.write(json.dumps([step, figures]) + "\n")

    def close(self):
        """Nothing is left to send."""


class Repeating(FileTracker):
    """Sends again what the service has."""

    def __init__(self, run):
        super().__init__(run)
        self.first = 0


class Renumbering(FileTracker):
    """Counts the steps itself."""

    def log(self, _step, figures):
        super().log(self.seen, figures)


class Buffering(FileTracker):
    """Keeps the last step back, and forgets it."""

    def __init__(self, run):
        super().__init__(run)
        self.last = None

    def log(self, step, figures):
        if self.last:
            super().log(*self.last)
        self.last = (step, figures)


class Numeric(FileTracker):
    """Leaves out texts."""

    def log(self, step, figures):
        super().log(step, {name: v for name, v in figures.items() if not isinstance(v, str)})


class Strict(FileTracker):
    """Refuses what JSON has no number for."""

    def log(self, step, figures):
        super().log(step, json.loads(json.dumps(figures, allow_nan=False)))


class OnClose(FileTracker):
    """Sends everything when it is closed, and fails when there is nothing."""

    def __init__(self, run):
        super().__init__(run)
        self.kept = []

    def log(self, step, figures):
        self.kept.append((step, figures))

    def close(self):
        if not self.kept:
            raise RuntimeError("nothing to send")
        for step, figures in self.kept:
            super().log(step, figures)


def case_of(make, directory):
    def received():
        path = directory / "tracked.jsonl"
        return [(step, figures) for step, figures in map(json.loads, path.read_text().splitlines())]

    return TrackerCase(make=make, received=received, directory=directory)


@pytest.mark.parametrize("check", TRACKER_CHECKS, ids=lambda check: check.__name__)
def test_a_tracker_that_writes_a_file_conforms(check, tmp_path):
    check(case_of(FileTracker, tmp_path))


@pytest.mark.parametrize(
    ("broken", "caught_by", "message"),
    [
        (Repeating, "check_a_resumed_run_repeats_no_step", "received twice"),
        (Repeating, "check_a_killed_run_loses_no_step", "received twice"),
        (Renumbering, "check_skipped_steps_stay_out", "were received"),
        (Buffering, "check_every_step_is_received", "were received"),
        (Numeric, "check_every_step_is_received", "other figures"),
    ],
)
def test_the_suite_catches_a_broken_tracker(broken, caught_by, message, tmp_path):
    check = next(check for check in TRACKER_CHECKS if check.__name__ == caught_by)
    with pytest.raises(AssertionError, match=message):
        check(case_of(broken, tmp_path))


@pytest.mark.parametrize(
    ("broken", "caught_by", "error"),
    [
        (Strict, "check_figures_that_are_not_finite_are_accepted", ValueError),
        (OnClose, "check_a_run_without_steps_closes", RuntimeError),
    ],
)
def test_errors_of_the_tracker_are_not_caught(broken, caught_by, error, tmp_path):
    check = next(check for check in TRACKER_CHECKS if check.__name__ == caught_by)
    with pytest.raises(error):
        check(case_of(broken, tmp_path))
