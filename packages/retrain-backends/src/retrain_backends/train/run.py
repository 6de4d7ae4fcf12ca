"""The parts of a run that the loop uses."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console

from retrain_backends.protocols import Backend
from retrain_backends.tracking.journal import Journal
from retrain_backends.train.evaluate import Evaluator
from retrain_backends.train.finish import RunIdentity
from retrain_backends.train.prefetch import Prefetcher
from retrain_backends.train.startup_checks import StartupChecks
from retrain_backends.train.step.clock import StepClock
from retrain_backends.train.step.credit import CreditAssignment
from retrain_backends.train.step.overlap import Overlap, StepTrainer
from retrain_backends.train.step.progress import Progress
from retrain_backends.train.step.rollouts import Rollouts
from retrain_backends.train.storage.checkpoint import Checkpoints
from retrain_backends.train.storage.run_directory import RunDirectory
from retrain_backends.train.storage.train_state import TrainState
from retrain_backends.types import Usage


@dataclass(frozen=True)
class Run:
    """The parts of one run. Exiting its context closes files, console view and backend.

    `start` is the state before the first step of this process, `run_directory` the directory as it
    was opened; `dumps` is the directory for
    batches whose loss or gradient was not finite; `overlap` trains groups while others are sampled;
    `draws` is whether to draw the learning curve.
    """

    identity: RunIdentity
    run_directory: RunDirectory
    start: TrainState
    resumed: bool
    max_steps: int
    evaluates: bool
    draws: bool
    dumps: Path
    backend: Backend
    prefetcher: Prefetcher
    overlap: Overlap | None
    credit: CreditAssignment
    progress: Progress
    startup_checks: StartupChecks
    evaluator: Evaluator
    checkpoints: Checkpoints
    journal: Journal
    console: Console
    closing: ExitStack

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.closing.close()

    def step_trainer(self, rollouts: Rollouts, state: TrainState, clock: StepClock) -> StepTrainer:
        """The trainer of the step that follows `state`; with `overlap`, when all is judged."""
        if self.overlap:
            return self.overlap.train(rollouts, state, clock)
        return self.backend.trainer

    def lost(self) -> str:
        """What another program has done to the directories or logs; empty if nothing."""
        return self.journal.lost() or self.checkpoints.lost()

    def reason_to_stop(self, state: TrainState, usage: Usage) -> str:
        """Why the backend ends the run; empty if it does not, or if all work is done.

        The last evaluation also counts as work, since it costs tokens.
        """
        done = state.steps_done == self.max_steps and not self.evaluates
        return "" if done else usage.stop
