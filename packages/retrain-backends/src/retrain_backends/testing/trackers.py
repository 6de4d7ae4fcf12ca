"""Checks of a tracker. Each takes a `TrackerCase` and fails with an AssertionError.

Errors of the tracker are not caught here; in a run they are reported, and the run continues.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

from retrain_backends.config import LoggingConfig
from retrain_backends.protocols import Tracker
from retrain_backends.tracking.trackers import TrackedRun

Figures: TypeAlias = Mapping[str, float | str]


@dataclass(frozen=True)
class TrackerCase:
    """How to make the tracker under test, and how to read what it has sent.

    Args:
      make: builds the tracker of a run; called again for the same run, as when it is resumed.
      received: returns the steps that the service has received, in order, without figures that
        the service adds itself.
      directory: an empty directory, that of the run.
      logging: the `[logging]` table.
    """

    make: Callable[[TrackedRun], Tracker]
    received: Callable[[], Sequence[tuple[int, Figures]]]
    directory: Path
    logging: LoggingConfig = field(default_factory=LoggingConfig)

    def tracker(self) -> Tracker:
        """A new tracker of the run."""
        return self.make(
            TrackedRun(
                directory=self.directory,
                name="maxrl+gtpo_sepa",
                logging=self.logging,
                settings={"model": "tiny", "seed": 1, "lr": 0.1},
                report=lambda _line: None,
            )
        )


def figures(step: int) -> dict[str, float | str]:
    """Typical figures of a step: numbers, texts, and an evaluation every second step."""
    trained: dict[str, float | str] = {
        "train/loss": 0.25 * step,
        "train/num_datums": step,
        "train/backpressure/action": "off",
    }
    evaluated: dict[str, float | str] = {"eval/accuracy": 0.5, "eval/num_questions": 8}
    return {**(trained if step else {}), **({} if step % 2 else evaluated)}


def check_every_step_is_received(case: TrackerCase) -> None:
    """After `close` the service has received every step once, in order, with its figures."""
    tracker = case.tracker()
    _log(tracker, range(4))
    tracker.close()
    _assert_received(case, range(4))


def check_skipped_steps_stay_out(case: TrackerCase) -> None:
    """Steps keep the numbers they were logged with; gaps are not filled."""
    tracker = case.tracker()
    _log(tracker, (1, 3, 8))
    tracker.close()
    _assert_received(case, (1, 3, 8))


def check_a_resumed_run_repeats_no_step(case: TrackerCase) -> None:
    """A second tracker of the run logs all steps again; the service receives only new ones."""
    for last in (2, 5):
        tracker = case.tracker()
        _log(tracker, range(last))
        tracker.close()
    _assert_received(case, range(5))


def check_a_killed_run_loses_no_step(case: TrackerCase) -> None:
    """The same when the first tracker was never closed.

    A service whose library can open a run only once per process needs a separate test for this.
    """
    killed = case.tracker()
    _log(killed, range(2))
    resumed = case.tracker()
    _log(resumed, range(5))
    resumed.close()
    _assert_received(case, range(5))


def check_a_run_without_steps_closes(case: TrackerCase) -> None:
    """A tracker without steps can be closed; a later tracker of the run receives all steps."""
    case.tracker().close()
    tracker = case.tracker()
    _log(tracker, range(2))
    tracker.close()
    _assert_received(case, range(2))


def check_figures_that_are_not_finite_are_accepted(case: TrackerCase) -> None:
    """A non-finite loss is not an error, and the other figures are received."""
    tracker = case.tracker()
    for step, loss in enumerate((float("nan"), float("inf"))):
        tracker.log(step, {"train/loss": loss, "train/num_datums": 4})
    tracker.close()
    received = case.received()
    assert [step for step, _ in received] == [0, 1], "a step with a loss of NaN is missing"
    assert all(row["train/num_datums"] == 4 for _, row in received), "a figure is missing"


TRACKER_CHECKS: tuple[Callable[[TrackerCase], None], ...] = (
    check_every_step_is_received,
    check_skipped_steps_stay_out,
    check_a_resumed_run_repeats_no_step,
    check_a_killed_run_loses_no_step,
    check_a_run_without_steps_closes,
    check_figures_that_are_not_finite_are_accepted,
)


def _log(tracker: Tracker, steps: Iterable[int]) -> None:
    for step in steps:
        tracker.log(step, figures(step))


def _assert_received(case: TrackerCase, steps: Iterable[int]) -> None:
    received, expected = case.received(), list(steps)
    numbers = [step for step, _ in received]
    assert len(set(numbers)) == len(numbers), f"a step was received twice: {numbers}"
    assert all(one < other for one, other in pairwise(numbers)), f"steps out of order: {numbers}"
    assert numbers == expected, f"steps {numbers} were received, {expected} were logged"
    for step, row in received:
        assert row == figures(step), f"other figures were received for step {step}"
