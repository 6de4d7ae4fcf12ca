"""A training run, step by step.

evaluate -> save -> prompts -> sample -> decode -> reward -> advantage -> train -> log
"""

from contextlib import suppress

from retrain_backends.config import RunConfig
from retrain_backends.errors import InterruptedRunError
from retrain_backends.tracking.summary import RunSummary
from retrain_backends.train.build import Run, build
from retrain_backends.train.evaluate import evaluate_if_due
from retrain_backends.train.finish import (
    Ending,
    conclude,
    ended_early,
    reason_to_stop,
    save_adapter,
)
from retrain_backends.train.prefetch import Prefetcher
from retrain_backends.train.records import StepRecord, log_step
from retrain_backends.train.startup_checks import start_up
from retrain_backends.train.step.batches import completion_batch, train_batch
from retrain_backends.train.step.clock import StepClock
from retrain_backends.train.step.interrupt import finish_first
from retrain_backends.train.step.learning_rule import apply_rule, pooled_entropy
from retrain_backends.train.step.optimise import optimise
from retrain_backends.train.step.samples import Judged, count, describe_samples
from retrain_backends.train.storage.durable_writes import report_full_disk


def train(config: RunConfig) -> RunSummary:
    """Train as the configuration says, and keep what came of it.

    Writes into a directory of the run's own and shows progress on the console.

    Raises:
      RetrainError: a setting that cannot be honoured, or a run that could not go on.
      InterruptedRunError: Ctrl-C; what had been trained is saved.
      StoppedRunError: the same, when the backend had the run end.
    """
    directory = config.resume.from_ or config.logging.log_dir
    try:
        with report_full_disk(lambda: f"{directory}: the disk is full; make room, start again"):
            run = build(config)
    except KeyboardInterrupt:
        raise InterruptedRunError("interrupted before the first step") from None
    with report_full_disk(run.checkpoints.when_the_disk_is_full):
        with run:
            ending = run_steps(run)
            adapter = save_adapter(run, ending)
        summary = conclude(run, ending.state, adapter)
    if not ending.finished:
        raise ended_early(run, ending, adapter)
    return summary


def run_steps(run: Run) -> Ending:
    """Do the steps of a run, to the last one, until Ctrl-C, or until the backend has it stop.

    Ctrl-C while a step is sampled and judged drops that step; once the optimiser has begun, the
    step is trained and logged first. What is saved between two steps counts as time of the later
    one.
    """
    settings = run.config.training
    state, score, finished = run.start, None, False
    with suppress(KeyboardInterrupt), Prefetcher(run) as ahead:
        # A run that is gone on with may have nothing left to spend: then it asks for nothing more.
        if run.restored and (reason := reason_to_stop(run, state, run.backend.usage())):
            return Ending(state, stopped=reason)
        guard = start_up(run, state)
        score = evaluate_if_due(run, state.steps_done)
        while state.steps_done < settings.max_steps:
            clock, step = StepClock(), state.steps_done
            with clock("save"), finish_first():
                run.checkpoints.save_if_due(state, score)
            with clock("prompts"):
                prompts = ahead.prompts(state)
            with clock("sample"):
                groups, scoring, off_policy = ahead.sample(state, prompts)
            with clock("decode"):
                texts = scoring.texts(groups)
                samples = describe_samples(prompts, groups, texts, run.tokenizer, run.detector)
            with clock("reward"):
                judged = Judged(samples, scoring.verdicts())
                counts = count(judged, settings.max_tokens, state.running)
            with clock("advantage"):
                sepa = run.control.reading(state)
                entropy = pooled_entropy(samples, run.config.algorithm.uncertainty_kind)
                advantages = apply_rule(run.rule, completion_batch(judged), sepa.strength)
                batch = train_batch(judged, advantages.values, counts.kept_groups, run.origin(step))
            ahead.begin(state)
            with finish_first():
                with clock("train"):
                    result = optimise(run.backend, batch, run.directory / "nonfinite")
                usage = run.backend.usage()
                state = run.control.advance(state, len(prompts), counts, entropy, result)
                score = None
                with clock("health"):
                    health = guard.examine(samples, result, state)
                record = StepRecord(
                    step, judged, off_policy, counts, entropy, sepa, advantages, batch, result,
                    usage, health,
                )  # fmt: skip
                log_step(run.journal, record, run.condition, clock)
                health.act(run.console)
            if reason := reason_to_stop(run, state, usage):
                return Ending(state, stopped=reason)
            score = evaluate_if_due(run, state.steps_done)
        with finish_first():
            run.checkpoints.save_if_due(state, score)
            finished = True
    return Ending(state, score, finished)
