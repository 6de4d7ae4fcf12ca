"""Sends the rows of the logs to trackers: services that draw the figures of a run."""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from types import TracebackType
from typing import Self

from retrain_backends.config import LoggingConfig
from retrain_backends.errors import RetrainError, describe
from retrain_backends.plugins import KINDS, build, resolve
from retrain_backends.protocols import Tracker
from retrain_backends.tracking.figures import evaluation_figures, train_figures
from retrain_backends.tracking.journal import Row, read_evaluations, read_metrics


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is built from: the argument of its `from_config`.

    Args:
      directory: of the run; a tracker may keep files there.
      name: of the run, where the user has set none for this tracker.
      logging: the `[logging]` table.
      settings: those by which runs are compared.
      report: shows the user a line.
    """

    directory: Path
    name: str
    logging: LoggingConfig
    settings: Mapping[str, float | str]
    report: Callable[[str], None]


class Tracking:
    """Passes the rows of a run to its trackers, all figures of one step together.

    The figures after a number of steps are those of the last of these steps and, where the policy
    is then evaluated, of the evaluation: such a step is sent with its evaluation. If the run ends
    before that, it is sent from the logs when the run is resumed.

    Args:
      trackers: of the run; may be empty.
      evaluated: the numbers of steps after which the run evaluates.
    """

    def __init__(self, trackers: Sequence[Tracker], evaluated: Collection[int]) -> None:
        self._trackers = trackers
        self._evaluated = evaluated
        self._waiting: dict[int, dict[str, float | str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with ExitStack() as stack:
            for tracker in self._trackers:
                stack.callback(tracker.close)

    def step(self, row: Row) -> None:
        """Send a row of `metrics.jsonl`, or keep it until its evaluation comes."""
        done = _steps_done(row)
        if done in self._evaluated:
            self._waiting = {done: train_figures(row)}
        else:
            self._send(done, train_figures(row))

    def evaluation(self, row: Row) -> None:
        """Send a row of `eval.jsonl`, with the step before it."""
        done = row["step"]
        assert isinstance(done, int)
        self._send(done, {**self._waiting.pop(done, {}), **evaluation_figures(row)})

    def replay(self, directory: Path) -> None:
        """Send the rows that are in the logs of a resumed run."""
        if not self._trackers:
            return
        evaluations = {row["step"]: row for row in read_evaluations(directory)}
        if 0 in evaluations:
            self.evaluation(evaluations[0])
        for row in read_metrics(directory):
            done = _steps_done(row)
            if done in evaluations:
                self._waiting = {done: train_figures(row)}
                self.evaluation(evaluations[done])
            else:
                self.step(row)

    def _send(self, done: int, figures: Mapping[str, float | str]) -> None:
        for tracker in self._trackers:
            tracker.log(done, figures)


def tracker_names(logging: LoggingConfig) -> tuple[str, ...]:
    """The trackers that `[logging]` asks for: those it lists, and `wandb` if it has a project."""
    implied = ("wandb",) if logging.wandb_project else ()
    return tuple(dict.fromkeys((*implied, *logging.trackers)))


def check_trackers(logging: LoggingConfig) -> None:
    """Import the trackers that are plugins; built-in ones are imported when they are built.

    Raises:
      PluginError: a name leads to no tracker.
    """
    for name in logging.trackers:
        if name not in KINDS["tracker"].builtins:
            resolve("tracker", name)


def open_tracking(run: TrackedRun, evaluated: Collection[int]) -> Tracking:
    """Build the trackers that `[logging]` asks for; one that cannot be built is left out.

    Args:
      run: what is tracked; its `report` shows in one line what is wrong with a tracker.
      evaluated: the numbers of steps after which the run evaluates.
    """
    return Tracking([_FaultTolerant(name, run) for name in tracker_names(run.logging)], evaluated)


class _FaultTolerant:
    """A tracker whose first failure is reported and ends the tracking, not the run."""

    def __init__(self, name: str, run: TrackedRun) -> None:
        self._name = name
        self._report = run.report
        self._tracker: Tracker | None = None
        self._attempt(lambda: self._build(name, run))

    def log(self, step: int, figures: Mapping[str, float | str]) -> None:
        """Pass the figures on, unless the tracker has failed."""
        if tracker := self._tracker:
            self._attempt(lambda: tracker.log(step, figures))

    def close(self) -> None:
        """Close the tracker, unless it has failed."""
        if tracker := self._tracker:
            self._attempt(tracker.close)

    def _build(self, name: str, run: TrackedRun) -> None:
        self._tracker = build("tracker", name, run)

    def _attempt(self, action: Callable[[], None]) -> None:
        # A border: a service, its library and the network.
        try:
            action()
        except Exception as error:  # noqa: BLE001
            self._tracker = None
            line = f"{self._name}: tracking failed, the run continues without it ({reason(error)})"
            self._report(line)


def reason(error: Exception) -> str:
    """The error in one line, without API keys from the environment."""
    text = str(error) if isinstance(error, RetrainError) else describe(error)
    keys = [value for name, value in os.environ.items() if name.endswith("_API_KEY") and value]
    return reduce(lambda line, key: line.replace(key, "***"), keys, text)


def _steps_done(row: Row) -> int:
    step = row["step"]
    assert isinstance(step, int)
    return step + 1
