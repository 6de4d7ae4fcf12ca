"""From the configuration to the parts of a run."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console

from retrain_backends.config import RunConfig, with_drawn_seed
from retrain_backends.data import PromptStream
from retrain_backends.errors import PluginError
from retrain_backends.planning import build_detector
from retrain_backends.plugins import build as build_part
from retrain_backends.plugins import resolve
from retrain_backends.protocols import Backend, PlanningDetector
from retrain_backends.rewards import RewardService, build_reward
from retrain_backends.tokenizer import Tokenizer, load_tokenizer
from retrain_backends.tracking.console import StepView, print_lines, step_view
from retrain_backends.tracking.figures import run_settings
from retrain_backends.tracking.journal import Journal
from retrain_backends.tracking.trackers import TrackedRun, check_trackers, open_tracking
from retrain_backends.train.prompts import held_out_prompts, renderer, training_prompts
from retrain_backends.train.refusals import refuse_clashes, refuse_unavailable
from retrain_backends.train.step.background import Background
from retrain_backends.train.step.batches import BatchOrigin
from retrain_backends.train.step.control import Control, idle_sepa
from retrain_backends.train.step.learning_rule import Rule, build_rule, condition
from retrain_backends.train.storage.checkpoint import Checkpoints
from retrain_backends.train.storage.fingerprints import fingerprints_of
from retrain_backends.train.storage.resume_point import ResumePoint
from retrain_backends.train.storage.run_directory import (
    RunDirectory,
    claim_run_directory,
    describe_start,
    earlier_run,
    reopen_run_directory,
)
from retrain_backends.train.storage.train_state import TrainState
from retrain_backends.types import Capabilities, Prompt, Restored, SamplingParams


@dataclass(frozen=True)
class Run:
    """The parts of one run. Leaving it as a context closes its files, its view and its backend.

    `start` is the state to begin or go on with, and `restored` how exactly the backend goes on, or
    None if it begins; `model_digests` are those of the model's files; `held_out` are the questions
    of the evaluations, each with its number in its source; `background` does work beside the loop.
    """

    config: RunConfig
    condition: str
    directory: Path
    start: TrainState
    restored: Restored | None
    model_digests: Mapping[str, str]
    prompts: PromptStream
    held_out: Sequence[tuple[int, Prompt]]
    tokenizer: Tokenizer
    backend: Backend
    reward: RewardService
    detector: PlanningDetector
    rule: Rule
    control: Control
    checkpoints: Checkpoints
    journal: Journal
    background: Background
    console: Console
    view: StepView
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

    def sampling(self, step: int) -> SamplingParams:
        """How to sample at a step."""
        training = self.config.training
        return SamplingParams(
            group_size=training.group_size,
            max_tokens=training.max_tokens,
            temperature=training.temperature,
            stop_token_ids=self.tokenizer.stop_token_ids,
            seed=training.seed,
            step=step,
            entropy=self.config.algorithm.uncertainty_kind == "shannon_entropy",
        )

    def origin(self, step: int) -> BatchOrigin:
        """What the training batch of a step carries besides its tokens."""
        return BatchOrigin(self.config.training.temperature, step, self.config.training.seed)


def build(config: RunConfig) -> Run:
    """Make every part of the run; the cheap and fallible first, the model next, its files last.

    Raises:
      ConfigError: settings that this version or the backend cannot honour.
      RetrainError: a part that cannot be made.
    """
    refuse_unavailable(config)
    with ExitStack() as stack:
        background = stack.enter_context(closing(Background()))  # closed last
        point = stack.enter_context(earlier_run(config))
        return _build(point, point.config if point else with_drawn_seed(config), background, stack)


def _build(
    point: ResumePoint | None, config: RunConfig, background: Background, stack: ExitStack
) -> Run:
    refuse_clashes(config, declared_capabilities(config.backend.backend))
    if point:
        point.refuse()
    check_trackers(config.logging)
    rule = build_rule(config)
    detector = build_detector(config.planning, config.logging.strategic_grams)
    tokenizer = load_tokenizer(config.model.model)
    render = renderer(config, tokenizer)
    prompts = training_prompts(config, render)
    held_out = held_out_prompts(config, render)
    console = Console(highlight=False)
    print_lines(console, _title(config))
    reward = stack.enter_context(closing(build_reward(config.reward)))
    backend: Backend = build_part("backend", config.backend.backend, config)
    stack.enter_context(closing(backend))
    control = Control.from_config(config)
    questions = [prompt.example for _, prompt in held_out]
    material = fingerprints_of(config.model.model, prompts.fingerprint(), questions)
    begun = describe_start(config, control.start(), material, backend.describe())
    place = (
        reopen_run_directory(point, begun)
        if point
        else stack.enter_context(claim_run_directory(config, begun))
    )
    print_lines(console, *_opening_lines(config, place, point))
    restored = _restore(backend, place, console)
    saved = place.saved.resumed(restored)
    journal, view = stack.enter_context(_logs(config, place, console))
    return Run(
        config=config,
        condition=condition(config),
        directory=place.directory,
        start=place.saved.train_state,
        restored=restored,
        model_digests=saved.material.model,
        prompts=prompts,
        held_out=held_out,
        tokenizer=tokenizer,
        backend=backend,
        reward=reward,
        detector=detector,
        rule=rule,
        control=control,
        checkpoints=Checkpoints(backend, place.directory, saved, config.training),
        journal=journal,
        background=background,
        console=console,
        view=view,
        closing=stack.pop_all(),
    )


def declared_capabilities(name: str) -> Capabilities:
    """What the backend says about itself on its class, so that no model need be loaded to know."""
    declared = getattr(resolve("backend", name), "capabilities", None)
    if not isinstance(declared, Capabilities):
        raise PluginError(
            f"backend.backend: `{name}` does not declare `capabilities = Capabilities(...)` on its "
            "class; it must, so that a run can be checked before a model is loaded"
        )
    return declared


def _title(config: RunConfig) -> str:
    name, seed = condition(config), config.training.seed
    return f"{name}, seed {seed}: {config.model.model} on {config.backend.backend}"


@contextmanager
def _logs(
    config: RunConfig, place: RunDirectory, console: Console
) -> Iterator[tuple[Journal, StepView]]:
    """The logs of the run, and the console's view, which reads their rows as its trackers do.

    The trackers of a resumed run first get the rows that are there already.
    """
    name = condition(config)
    tracked = TrackedRun(
        directory=place.directory,
        name=name,
        logging=config.logging,
        settings=run_settings(config, name),
        report=lambda line: print_lines(console, line),
    )
    evaluated = frozenset(config.eval.due_after(config.training.max_steps))
    with open_tracking(tracked, evaluated) as tracking:
        tracking.replay(place.directory)
        view = step_view(console, config.training.max_steps)
        with view, Journal(place.directory, [tracking, view]) as journal:
            yield journal, view


def _restore(backend: Backend, place: RunDirectory, console: Console) -> Restored | None:
    """Have the backend go on from the checkpoint, if there is one, and tell how exactly it does."""
    if not place.saved.checkpoint:
        return None
    restored = backend.load(place.saved.reference_in(place.directory))
    print_lines(console, f"resume_fidelity {restored.fidelity}: {restored.reason}")
    return restored


def _opening_lines(
    config: RunConfig, place: RunDirectory, point: ResumePoint | None
) -> Iterator[str]:
    """Where the run is, and where and how it goes on."""
    if point:
        yield f"logs in {place.directory}"
        yield from point.notes()
        return
    taken = str(place.directory) != config.logging.log_dir
    note = f" ({config.logging.log_dir} holds another run)" if taken else ""
    yield f"logs in {place.directory}{note}"
    if idle := idle_sepa(config):
        yield f"note: {idle}"
