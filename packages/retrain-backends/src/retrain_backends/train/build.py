"""From the configuration to the parts of a run."""

from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console

from retrain_backends.config import RunConfig, dump_config, with_drawn_seed
from retrain_backends.data import PromptStream, load_examples
from retrain_backends.errors import PluginError
from retrain_backends.planning import build_detector
from retrain_backends.plugins import build as build_part
from retrain_backends.plugins import resolve
from retrain_backends.protocols import Backend, PlanningDetector, Reward
from retrain_backends.rewards import build_reward
from retrain_backends.tokenizer import Tokenizer, load_tokenizer
from retrain_backends.tracking.console import StepView, print_lines, step_view
from retrain_backends.tracking.directory import claim_directory
from retrain_backends.tracking.journal import Journal
from retrain_backends.train.batches import BatchOrigin
from retrain_backends.train.checkpoint import Checkpoints
from retrain_backends.train.control import Control
from retrain_backends.train.refusals import refuse_clashes, refuse_unavailable
from retrain_backends.train.rule import Rule, build_rule, condition
from retrain_backends.types import Capabilities, Example, Prompt, SamplingParams


@dataclass(frozen=True)
class Run:
    """The parts of one run. Leaving it as a context closes its files, its view and its backend."""

    config: RunConfig
    condition: str
    directory: Path
    prompts: PromptStream
    tokenizer: Tokenizer
    backend: Backend
    reward: Reward
    detector: PlanningDetector
    rule: Rule
    control: Control
    checkpoints: Checkpoints
    journal: Journal
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
    config = with_drawn_seed(config)
    refuse_unavailable(config)
    refuse_clashes(config, _declared_capabilities(config.backend.backend))
    rule = build_rule(config)
    reward = build_reward(config.reward)
    detector = build_detector(config.planning, config.logging.strategic_grams)
    tokenizer = load_tokenizer(config.model.model)
    prompts = _prompt_stream(config, tokenizer)
    console = Console(highlight=False)
    name = condition(config.algorithm)
    print_lines(
        console,
        f"{name}, seed {config.training.seed}: {config.model.model} on {config.backend.backend}",
    )
    with ExitStack() as stack:
        backend: Backend = build_part("backend", config.backend.backend, config)
        stack.enter_context(closing(backend))
        directory, adapters = _directories(config)
        taken = str(directory) != config.logging.log_dir
        note = f" ({config.logging.log_dir} holds another run)" if taken else ""
        print_lines(console, f"logs in {directory}{note}")
        journal = stack.enter_context(Journal(directory))
        view = stack.enter_context(step_view(console, config.training.max_steps))
        return Run(
            config=config,
            condition=name,
            directory=directory,
            prompts=prompts,
            tokenizer=tokenizer,
            backend=backend,
            reward=reward,
            detector=detector,
            rule=rule,
            control=Control.from_config(config),
            checkpoints=Checkpoints(backend, adapters, config.training.save_every),
            journal=journal,
            console=console,
            view=view,
            closing=stack.pop_all(),
        )


def _declared_capabilities(name: str) -> Capabilities:
    """What the backend says about itself on its class, so that no model need be loaded to know."""
    declared = getattr(resolve("backend", name), "capabilities", None)
    if not isinstance(declared, Capabilities):
        raise PluginError(
            f"backend.backend: `{name}` does not declare `capabilities = Capabilities(...)` on its "
            "class; it must, so that a run can be checked before a model is loaded"
        )
    return declared


def _prompt_stream(config: RunConfig, tokenizer: Tokenizer) -> PromptStream:
    training, data = config.training, config.data
    examples = load_examples(data, training.seed, training.max_examples)

    def render(example: Example) -> Prompt:
        text = tokenizer.render(example.question, data.prompt_template)
        return Prompt(example, text, tokenizer.encode(text))

    return PromptStream(examples, render, training.seed, data.shuffle)


def _directories(config: RunConfig) -> tuple[Path, Path]:
    """The run's directory and that of its adapters, both new."""
    text = dump_config(config)
    directory = claim_directory(Path(config.logging.log_dir), text, setting="logging.log_dir")
    if not config.backend.adapter_path:
        return directory, directory
    path = Path(config.backend.adapter_path)
    return directory, claim_directory(path, text, setting="backend.adapter_path")
