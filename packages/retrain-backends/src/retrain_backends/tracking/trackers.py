"""From the rows of the logs to the services that a run is tracked by."""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from retrain_backends.config import LoggingConfig
from retrain_backends.errors import RetrainError, describe
from retrain_backends.plugins import load_object
from retrain_backends.protocols import Tracker
from retrain_backends.tracking.figures import evaluation_figures, train_figures
from retrain_backends.tracking.journal import Row, read_evaluations, read_metrics

# By the key of `[logging]` that asks for it. A tracker is made from a `TrackedRun`.
TRACKERS: Final = {"wandb_project": "retrain_backends.tracking.wandb:WandbTracker"}


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told about a run.

    `name` is that of the run where the user gives none; `settings` are those by which runs are
    compared; `say` shows the user a line.
    """

    directory: Path
    name: str
    logging: LoggingConfig
    settings: Mapping[str, float | str]
    say: Callable[[str], None]


class Tracking:
    """Hands the rows of a run to its trackers, all figures of one step together.

    The figures after a number of steps are those of the last of these steps and, where the policy
    is then evaluated, of the evaluation: such a step waits for it. What waits when the run ends is
    not sent, but read from the logs when the run is resumed.

    Args:
      trackers: of the run; none is fine.
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
        """Take a row of `metrics.jsonl`."""
        done = _steps_done(row)
        if done in self._evaluated:
            self._waiting = {done: train_figures(row)}
        else:
            self._send(done, train_figures(row))

    def evaluation(self, row: Row) -> None:
        """Take a row of `eval.jsonl`."""
        done = row["step"]
        assert isinstance(done, int)
        self._send(done, {**self._waiting.pop(done, {}), **evaluation_figures(row)})

    def replay(self, directory: Path) -> None:
        """Take the rows that a resumed run has in its logs."""
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


def open_tracking(run: TrackedRun, evaluated: Collection[int]) -> Tracking:
    """Connect the trackers that `[logging]` asks for; one that cannot be had is left out.

    Args:
      run: what is tracked; it is told in one line what is wrong with a tracker.
      evaluated: the numbers of steps after which the run evaluates.
    """
    wanted = [key for key in TRACKERS if getattr(run.logging, key)]
    return Tracking([_Forgiven(key, run) for key in wanted], evaluated)


class _Forgiven:
    """A tracker whose first failure is told and is its end, not that of the run."""

    def __init__(self, key: str, run: TrackedRun) -> None:
        self._name = key.partition("_")[0]
        self._say = run.say
        self._tracker: Tracker | None = None
        self._attempt(lambda: self._open(key, run))

    def log(self, step: int, figures: Mapping[str, float | str]) -> None:
        """Pass the figures on."""
        if tracker := self._tracker:
            self._attempt(lambda: tracker.log(step, figures))

    def close(self) -> None:
        """Close the tracker, if it is still there."""
        if tracker := self._tracker:
            self._attempt(tracker.close)

    def _open(self, key: str, run: TrackedRun) -> None:
        self._tracker = load_object(TRACKERS[key], f"logging.{key}")(run)

    def _attempt(self, what: Callable[[], None]) -> None:
        # A border: a service, its library and the network.
        try:
            what()
        except Exception as error:  # noqa: BLE001
            self._tracker = None
            self._say(f"{self._name}: not tracked, the run goes on without it ({reason(error)})")


def reason(error: Exception) -> str:
    """What went wrong, in a line without the keys that the environment holds."""
    text = str(error) if isinstance(error, RetrainError) else describe(error)
    keys = [value for name, value in os.environ.items() if name.endswith("_API_KEY") and value]
    return reduce(lambda line, key: line.replace(key, "***"), keys, text)


def _steps_done(row: Row) -> int:
    step = row["step"]
    assert isinstance(step, int)
    return step + 1
