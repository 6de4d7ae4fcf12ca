"""A training run, step by step.

evaluate -> save -> prompts -> sample -> decode -> reward -> advantage -> train -> log
"""

from contextlib import suppress

from retrain_backends.config import RunConfig
from retrain_backends.errors import InterruptedRunError
from retrain_backends.tracking.summary import RunSummary
from retrain_backends.train.build import build
from retrain_backends.train.finish import Ending, ended_early, finish, save_adapter
from retrain_backends.train.records import StepRecord, log_step
from retrain_backends.train.run import Run
from retrain_backends.train.step.clock import StepClock
from retrain_backends.train.step.interrupt import finish_first
from retrain_backends.train.step.optimise import optimise
from retrain_backends.train.storage.durable_writes import report_full_disk


def train(config: RunConfig) -> RunSummary:
    """Train as configured, and save the result.

    Writes into the run's own directory and shows progress on the console.

    Raises:
      RetrainError: a setting is not supported, or the run failed.
      InterruptedRunError: Ctrl-C was pressed; the completed steps are saved.
      StoppedRunError: the backend ended the run; the completed steps are saved.
    """
    directory = config.resume.from_ or config.logging.log_dir
    try:
        with report_full_disk(lambda: f"{directory}: the disk is full; make room, start again"):
            run = build(config)
    except KeyboardInterrupt:
        raise InterruptedRunError("interrupted before the first step") from None
    with report_full_disk(run.checkpoints.full_disk_message):
        with run:
            ending = run_steps(run)
            adapter = save_adapter(run.checkpoints, ending)
        summary = finish(run.identity, ending.state, adapter, run.console, draw=run.draws)
    if not ending.finished:
        raise ended_early(run.identity.directory, ending, adapter)
    return summary


def run_steps(run: Run) -> Ending:
    """Train until the last step, until Ctrl-C, or until the backend ends the run.

    Ctrl-C during sampling or scoring discards the step; once the optimiser has started, the step
    is completed and logged first. The time of saving a checkpoint is counted in the next step.
    """
    state, score, finished = run.start, None, False
    with suppress(KeyboardInterrupt), run.prefetcher as rollouts:
        # The budget of a resumed run may be spent already.
        if run.resumed and (reason := run.reason_to_stop(state, run.backend.usage())):
            return Ending(state, stopped=reason)
        monitor = run.startup_checks.run(state)
        score = run.evaluator.evaluate_if_due(state.steps_done)
        while state.steps_done < run.max_steps:
            clock = StepClock()
            with clock("save"), finish_first():
                run.checkpoints.save_if_due(state, score)
            judged = rollouts.next(state, clock)
            with clock("advantage"):
                credit = run.credit.assign(judged, state)
            rollouts.prepare(state)
            with finish_first():
                with clock("train"):
                    result = optimise(run.backend.trainer, credit.batch, run.dumps)
                usage = run.backend.usage()
                state = run.progress.advance(state, credit, result)
                score = None
                with clock("health"):
                    health = monitor.examine(judged.samples, result, state)
                record = StepRecord(judged, credit, result, usage, health)
                log_step(run.journal, record, run.identity.condition, clock)
                health.act(run.console)
            if reason := run.reason_to_stop(state, usage):
                return Ending(state, stopped=reason)
            score = run.evaluator.evaluate_if_due(state.steps_done)
        with finish_first():
            run.checkpoints.save_if_due(state, score)
            finished = True
    return Ending(state, score, finished)
