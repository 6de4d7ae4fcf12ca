"""A training run, step by step.

evaluate -> save -> prompts -> sample -> decode -> reward -> advantage -> train -> log
"""

from dataclasses import dataclass, replace
from pathlib import Path

from retrain_backends.config import RunConfig
from retrain_backends.errors import TerminatedRunError
from retrain_backends.tracking.summary import RunSummary
from retrain_backends.train.build import build
from retrain_backends.train.finish import (
    Ending,
    ended_before_training,
    ended_early,
    finish,
    save_adapter,
    save_elsewhere,
)
from retrain_backends.train.records import StepRecord, log_step
from retrain_backends.train.run import Run
from retrain_backends.train.step.clock import StepClock
from retrain_backends.train.step.interrupt import Terminated, finish_first, sigterm_interrupts
from retrain_backends.train.step.optimise import optimise
from retrain_backends.train.storage.durable_writes import report_full_disk, report_inaccessible
from retrain_backends.train.storage.train_state import TrainState


def train(config: RunConfig) -> RunSummary:
    """Train as configured, and save the result.

    Writes into the run's own directory and shows progress on the console.

    Raises:
      RetrainError: a setting is not supported, or the run failed.
      InterruptedRunError: Ctrl-C was pressed; the completed steps are saved.
      TerminatedRunError: SIGTERM was received; the completed steps are saved.
      StoppedRunError: the backend ended the run; the completed steps are saved.
    """
    with sigterm_interrupts():
        try:
            return _train(config)
        except Terminated:  # when everything was saved
            raise TerminatedRunError("terminated") from None


def _train(config: RunConfig) -> RunSummary:
    directory = config.resume.from_ or config.logging.log_dir
    try:
        with (
            report_full_disk(lambda: f"{directory}: the disk is full; make room, start again"),
            report_inaccessible(Path(directory), lambda: "start again"),
        ):
            run = build(config)
    except KeyboardInterrupt as interrupt:
        raise ended_before_training(interrupt) from None
    with (
        report_full_disk(run.checkpoints.full_disk_message),
        report_inaccessible(run.identity.directory, run.checkpoints.how_to_resume),
        report_inaccessible(run.checkpoints.directory, run.checkpoints.how_to_resume),
    ):
        with run:
            ending = run_steps(run)
            adapter = (
                None
                if ending.lost
                else save_adapter(run.checkpoints, ending, run.identity.tokenizer)
            )
            if lost := ending.lost or run.lost():
                ending = replace(ending, lost=lost)
                raise save_elsewhere(run.run_directory, run.checkpoints, ending)
        summary = finish(run.identity, ending.state, adapter, run.console, draw=run.draws)
    if not ending.finished:
        raise ended_early(run.identity.directory, ending, adapter)
    return summary


@dataclass
class _Position:
    """The state after the last logged step, its evaluation, and whether everything is done."""

    state: TrainState
    score: float | None = None
    finished: bool = False


def run_steps(run: Run) -> Ending:
    """Train until the last step, or until something ends the run.

    That may be Ctrl-C or SIGTERM, the backend, or another program that changes the run's directory.
    Ctrl-C during sampling or scoring discards the step, with the gradient of groups that were
    trained meanwhile; once the optimiser has started, the step is completed and logged first. The
    time of saving a checkpoint is counted in the next step.
    """
    now = _Position(run.start)
    # A border: what another program does to the directory makes any operation on it fail.
    try:
        ending = _steps(run, now)
    except KeyboardInterrupt as interrupt:
        terminated = isinstance(interrupt, Terminated)
        ending = Ending(now.state, now.score, now.finished, terminated=terminated)
    except OSError:
        if not run.lost():
            raise
        ending = Ending(now.state, now.score)
    return replace(ending, lost=run.lost())


def _steps(run: Run, now: _Position) -> Ending:
    with run.prefetcher as prefetcher:
        # The budget of a resumed run may be spent already.
        if run.resumed and (reason := run.reason_to_stop(now.state, run.backend.usage())):
            return Ending(now.state, stopped=reason)
        monitor = run.startup_checks.run(now.state)
        now.score = run.evaluator.evaluate_if_due(now.state.steps_done)
        while now.state.steps_done < run.max_steps and not run.lost():
            clock = StepClock(prefetcher.sampling)
            with clock("save"), finish_first():
                run.checkpoints.save_if_due(now.state, now.score)
            rollouts = prefetcher.start(now.state, clock)
            trainer = run.step_trainer(rollouts, now.state, clock)
            judged = rollouts.wait(clock)
            with clock("advantage"):
                credit = run.credit.assign(judged, now.state)
            prefetcher.prepare(now.state)
            with finish_first():
                with clock("train"):
                    result = optimise(trainer, credit.batch, run.dumps)
                usage = run.backend.usage()
                now.state = run.progress.advance(now.state, credit, result)
                now.score = None
                with clock("health"):
                    health = monitor.examine(judged.samples, result, now.state)
                record = StepRecord(judged, credit, result, usage, health)
                log_step(run.journal, record, run.identity.condition, clock)
                health.act(run.console)
            if reason := run.reason_to_stop(now.state, usage):
                return Ending(now.state, stopped=reason)
            now.score = run.evaluator.evaluate_if_due(now.state.steps_done)
        with finish_first():
            if not run.lost():
                run.checkpoints.save_if_due(now.state, now.score)
            now.finished = True
        return Ending(now.state, now.score, now.finished)
