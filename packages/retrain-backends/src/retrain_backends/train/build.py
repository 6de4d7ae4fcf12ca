"""Builds the parts of a run from its configuration."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from rich.console import Console

from retrain_backends.config import RunConfig, with_drawn_seed
from retrain_backends.data import EVALUATION_SEED
from retrain_backends.declared import declared_capabilities
from retrain_backends.group_sampling import GroupSampling
from retrain_backends.planning import build_detector
from retrain_backends.plugins import build as build_part
from retrain_backends.protocols import Backend, PartsTrainer, Sampler, Trainer, facts_of
from retrain_backends.rewards import build_reward
from retrain_backends.tokenizer import Tokenizer, tokenizer_directory
from retrain_backends.tracking.console import StepView, print_lines, step_view
from retrain_backends.tracking.figures import run_settings
from retrain_backends.tracking.journal import Journal
from retrain_backends.tracking.trackers import TrackedRun, check_trackers, open_tracking
from retrain_backends.train.evaluate import EvaluationSettings, Evaluator
from retrain_backends.train.finish import RunIdentity
from retrain_backends.train.monitoring.health import HealthMonitor
from retrain_backends.train.prefetch import Prefetcher, Schedule
from retrain_backends.train.prompts import Task, load_task
from retrain_backends.train.refusals import refuse_clashes, refuse_unavailable
from retrain_backends.train.run import Run
from retrain_backends.train.startup_checks import StartupChecks
from retrain_backends.train.step.background import Background
from retrain_backends.train.step.credit import CreditAssignment
from retrain_backends.train.step.learning_rule import build_rule
from retrain_backends.train.step.overlap import Overlap
from retrain_backends.train.step.progress import Progress
from retrain_backends.train.step.scoring import Judge
from retrain_backends.train.step.sepa import idle_sepa, sepa_schedule
from retrain_backends.train.storage.checkpoint import Checkpoints
from retrain_backends.train.storage.fingerprints import Fingerprints, fingerprints_of
from retrain_backends.train.storage.metadata import MetadataFile
from retrain_backends.train.storage.resume_point import ResumePoint
from retrain_backends.train.storage.run_directory import (
    RunDirectory,
    claim_run_directory,
    describe_start,
    earlier_run,
    reopen_run_directory,
)
from retrain_backends.train.storage.state_file import SavedState
from retrain_backends.types import Restored, SamplingParams


def build(config: RunConfig) -> Run:
    """Build every part of the run: cheap checks first, then the model, the files last.

    Raises:
      ConfigError: settings that this version or the backend does not support.
      RetrainError: a part cannot be built.
    """
    refuse_unavailable(config)
    with ExitStack() as stack:
        background = stack.enter_context(closing(Background()))  # closed last
        point = stack.enter_context(earlier_run(config))
        return _build(point, point.config if point else with_drawn_seed(config), background, stack)


@dataclass(frozen=True)
class _Storage:
    """The opened run directory with its logs; `restored` is None for a new run."""

    run_directory: RunDirectory
    restored: Restored | None
    journal: Journal
    view: StepView


def _build(
    point: ResumePoint | None, config: RunConfig, background: Background, stack: ExitStack
) -> Run:
    training, sepa = config.training, sepa_schedule(config.algorithm, config.sepa)
    refuse_clashes(config, declared_capabilities(config.backend.backend))
    if point:
        point.refuse()
    check_trackers(config.logging)
    rule = build_rule(config.algorithm, config.gtpo, config.hicra)
    detector = build_detector(config.planning, config.logging.strategic_grams)
    task = load_task(config.model, config.data, training, config.eval)
    console = Console(highlight=False)
    print_lines(console, _title(config))
    judge = Judge(stack.enter_context(closing(build_reward(config.reward))), task.tokenizer)
    longest = task.longest_prompt(training.max_steps * training.batch_size)
    backend: Backend = build_part("backend", config.backend.backend, config.policy(longest))
    stack.enter_context(closing(backend))
    progress = Progress(sepa)
    initial = describe_start(
        config, progress.start(), _fingerprints(config, task), facts_of(backend)
    )
    storage = _open(point, config, initial, backend, console, stack)
    directory = storage.run_directory.directory
    saved = storage.run_directory.saved.resumed(storage.restored)
    sampling = _training_samples(config, task.tokenizer)
    overlaps = config.inference.overlap == "exact"
    schedule = Schedule(training.batch_size, training.max_steps, overlaps)
    credit = CreditAssignment(
        rule=rule,
        sepa=sepa,
        uncertainty_kind=config.algorithm.uncertainty_kind,
        max_tokens=training.max_tokens,
        temperature=training.temperature,
        seed=training.seed,
    )
    return Run(
        identity=_identity(config, directory),
        run_directory=storage.run_directory,
        start=saved.train_state,
        resumed=storage.restored is not None,
        max_steps=training.max_steps,
        evaluates=bool(config.eval.every),
        draws=config.logging.learning_curve,
        dumps=directory / "nonfinite",
        backend=backend,
        prefetcher=Prefetcher(
            task.prompts, backend.sampler, judge, detector, sampling, schedule, background
        ),
        overlap=Overlap(cast(PartsTrainer, backend.trainer), credit) if overlaps else None,
        credit=credit,
        progress=progress,
        startup_checks=_startup_checks(config, task, backend, storage, console),
        evaluator=_evaluator(config, task, backend.sampler, judge, storage),
        checkpoints=Checkpoints(backend.trainer, directory, saved, training, storage.journal),
        journal=storage.journal,
        console=console,
        closing=stack.pop_all(),
    )


def _identity(config: RunConfig, directory: Path) -> RunIdentity:
    model = config.model.model
    tokenizer = tokenizer_directory(model)
    return RunIdentity(directory, config.condition, config.training.seed, model, tokenizer)


def _fingerprints(config: RunConfig, task: Task) -> Fingerprints:
    return fingerprints_of(config.model.model, task.prompts.fingerprint(), task.questions)


def _open(
    point: ResumePoint | None,
    config: RunConfig,
    initial: SavedState,
    backend: Backend,
    console: Console,
    stack: ExitStack,
) -> _Storage:
    """Create or reopen the run directory, and load its checkpoint into the backend."""
    run_directory = (
        reopen_run_directory(point, initial)
        if point
        else stack.enter_context(claim_run_directory(config, initial))
    )
    print_lines(console, *_opening_lines(config, run_directory, point))
    restored = _restore(backend.trainer, run_directory, console)
    logs = stack.enter_context(_logs(config, run_directory, console))
    return _Storage(run_directory, restored, *logs)


def _training_samples(config: RunConfig, tokenizer: Tokenizer) -> GroupSampling:
    training = config.training
    entropy = config.algorithm.uncertainty_kind == "shannon_entropy"
    params = SamplingParams(training.temperature, tokenizer.stop_token_ids, entropy)
    return GroupSampling(training.seed, training.group_size, training.max_tokens, params)


def _evaluator(
    config: RunConfig, task: Task, sampler: Sampler, judge: Judge, storage: _Storage
) -> Evaluator:
    directory = storage.run_directory.directory
    settings = _evaluation(config, task)
    return Evaluator(settings, directory, sampler, judge, storage.journal, storage.view)


def _evaluation(config: RunConfig, task: Task) -> EvaluationSettings:
    training, evaluation = config.training, config.eval
    temperature = evaluation.temperature_beside(training.temperature)
    params = SamplingParams(temperature, task.tokenizer.stop_token_ids)
    return EvaluationSettings(
        due_after=frozenset(evaluation.due_after(training.max_steps)),
        condition=config.condition,
        questions=task.held_out,
        sampling=GroupSampling(EVALUATION_SEED, evaluation.samples, training.max_tokens, params),
        pass_k=evaluation.pass_k,
    )


def _startup_checks(
    config: RunConfig, task: Task, backend: Backend, storage: _Storage, console: Console
) -> StartupChecks:
    directory = storage.run_directory.directory
    return StartupChecks(
        backend=backend,
        stream=task.prompts,
        tokenizer=task.tokenizer,
        sampling=_training_samples(config, task.tokenizer),
        health=config.health,
        metadata=MetadataFile(
            directory,
            backend,
            {
                "seed": config.training.seed,
                "chat_template_kwargs": config.model.chat_template_kwargs,
            },
            config.reward.type,
            storage.run_directory.saved.fingerprints.model,
            storage.restored,
        ),
        monitor=HealthMonitor(config.health, backend.sampler.facts.engine, directory / "nonfinite"),
        console=console,
    )


def _title(config: RunConfig) -> str:
    name, seed = config.condition, config.training.seed
    return f"{name}, seed {seed}: {config.model.model} on {config.backend.backend}"


@contextmanager
def _logs(
    config: RunConfig, run_directory: RunDirectory, console: Console
) -> Iterator[tuple[Journal, StepView]]:
    """The logs of the run, and the console view, which reads their rows like a tracker.

    The trackers of a resumed run first receive the rows that are already logged.
    """
    tracked = TrackedRun(
        directory=run_directory.directory,
        name=config.condition,
        logging=config.logging,
        settings=run_settings(config, config.condition),
        report=lambda line: print_lines(console, line),
    )
    evaluated = frozenset(config.eval.due_after(config.training.max_steps))
    with open_tracking(tracked, evaluated) as tracking:
        tracking.replay(run_directory.directory)
        view = step_view(console, config.training.max_steps)
        with view, Journal(run_directory.directory, [tracking, view]) as journal:
            yield journal, view


def _restore(trainer: Trainer, run_directory: RunDirectory, console: Console) -> Restored | None:
    """Load the checkpoint, if there is one, and print how exactly it was restored."""
    saved = run_directory.saved
    if not saved.checkpoint:
        return None
    restored = trainer.load(saved.reference_in(run_directory.directory))
    print_lines(console, f"resume_fidelity {restored.fidelity}: {restored.reason}")
    return restored


def _opening_lines(
    config: RunConfig, run_directory: RunDirectory, point: ResumePoint | None
) -> Iterator[str]:
    """The run directory, and for a resumed run its checkpoint and what has changed."""
    if point:
        yield f"logs in {run_directory.directory}"
        yield from point.notes()
        return
    taken = str(run_directory.directory) != config.logging.log_dir
    note = f" ({config.logging.log_dir} holds another run)" if taken else ""
    yield f"logs in {run_directory.directory}{note}"
    if idle := idle_sepa(config.algorithm, config.sepa, config.training.max_steps):
        yield f"note: {idle}"
