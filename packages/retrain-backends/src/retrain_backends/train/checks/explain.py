"""Describes what a run would do, without loading a model or writing files."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypeVar

from retrain_backends.config import RunConfig
from retrain_backends.config.describe import toml_value
from retrain_backends.declared import declared_capabilities
from retrain_backends.engines.build import plan_in_process
from retrain_backends.errors import ConfigError, RetrainError
from retrain_backends.plugins import resolve
from retrain_backends.tinker.options import TinkerOptions, parse_options
from retrain_backends.tinker.usage import money
from retrain_backends.tracking.directory import free_directory
from retrain_backends.train.checks.forecast import (
    Amount,
    Measured,
    PromptLengths,
    amounts,
    bounds,
    measure_prompts,
    measure_run,
)
from retrain_backends.train.checks.sampling import refuse_unsupported, sampling
from retrain_backends.train.refusals import refuse_clashes, refuse_unavailable
from retrain_backends.train.step.learning_rule import build_rule
from retrain_backends.train.step.modes import advantage_row, transform_row
from retrain_backends.train.step.sepa import idle_sepa
from retrain_backends.types import Capabilities

T = TypeVar("T")
Rows: TypeAlias = Iterator[tuple[str, str]]


@dataclass(frozen=True)
class Chapter:
    """A title and (label, text) pairs."""

    title: str
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Explanation:
    """The description of a run; `problems` are the reasons why it would be refused."""

    chapters: tuple[Chapter, ...]
    amounts: tuple[Amount, ...]
    notes: tuple[str, ...]
    problems: tuple[str, ...]


def explain(config: RunConfig, run_dir: Path | None = None) -> Explanation:
    """Describe what a run with this configuration would do.

    Args:
      config: of the run; its tokenizer and its data are loaded, to count tokens.
      run_dir: directory of an earlier run to extrapolate from; None for upper bounds only.

    Raises:
      ConfigError: `run_dir` holds no run that has finished a step.
    """
    measured = measure_run(run_dir, config.training.max_steps) if run_dir else None
    problems: list[str] = []
    capabilities = _try(problems, lambda: declared_capabilities(config.backend.backend))
    options = _try(problems, lambda: parse_options(config.backend.options), _is_tinker(config))
    lengths = _try(problems, lambda: measure_prompts(config))
    _try(problems, lambda: refuse_unavailable(config))
    _try(problems, lambda: build_rule(config.algorithm, config.gtpo, config.hicra))
    steps = config.training.max_steps
    idle = _try(problems, lambda: idle_sepa(config.algorithm, config.sepa, steps)) or ""
    if capabilities:
        _try(problems, lambda: refuse_clashes(config, capabilities))
        _try(problems, lambda: refuse_unsupported(config))
    local = config.backend.backend == "local"
    settings = config.policy(lengths[0].longest if lengths else 0)
    plan = _try(problems, lambda: plan_in_process(settings), bool(lengths) and local) or ""
    log_dir = Path(config.logging.log_dir)
    free = _try(
        problems,
        lambda: free_directory(log_dir, setting="logging.log_dir"),
        not config.resume.from_,
    )
    most = bounds(config, *lengths) if lengths else None
    chapters = (
        Chapter("The run", tuple(_run(config, capabilities))),
        Chapter(
            f"The backend `{config.backend.backend}`",
            tuple(_backend(config, capabilities, options, plan)),
        ),
        Chapter("A step", tuple(_step(config, lengths[0] if lengths else None))),
        Chapter("During the run", tuple(_during_the_run(config, lengths[1] if lengths else None))),
        Chapter("Files", tuple(_files(config, options, run_dir, free))),
        *([Chapter(f"So far, in {run_dir}", tuple(_so_far(config, measured)))] if measured else []),
    )
    return Explanation(
        chapters=chapters,
        amounts=tuple(amounts(most, measured, options.prices)) if options else (),
        notes=(
            *([f"{idle}."] if idle else []),
            *_notes(lengths[0] if lengths else None, measured, options),
        ),
        problems=tuple(dict.fromkeys(problems)),
    )


def _try(problems: list[str], function: Callable[[], T], needed: bool = True) -> T | None:
    """The result of a function; None if it fails, with its errors appended to `problems`."""
    # A border: a package, a file or the answer of a service may be missing.
    try:
        return function() if needed else None
    except ConfigError as error:
        problems += error.problems
    except RetrainError as error:
        problems.append(str(error))
    return None


def _is_tinker(config: RunConfig) -> bool:
    return config.backend.backend == "tinker"


def _run(config: RunConfig, capabilities: Capabilities | None) -> Rows:
    training, algorithm = config.training, config.algorithm
    yield "condition", config.condition
    yield from _rule(config)
    yield "uncertainty", algorithm.uncertainty_kind
    fixed_scale = capabilities is not None and not capabilities.trainer.lora_alpha
    alpha = config.lora.alpha or 2 * config.model.lora_rank
    scale = "scaled as the backend chooses" if fixed_scale else f"alpha {alpha:g}"
    yield "model", config.model.model
    yield "adapter", f"LoRA of rank {config.model.lora_rank}, {scale}"
    path = f" {config.data.path}" if config.data.path else ""
    yield "data", f"{config.data.source}{path}, split {config.data.split}"
    yield "reward", config.reward.type
    yield "seed", str(training.seed) if training.seed >= 0 else "drawn at random, and recorded"


def _rule(config: RunConfig) -> Rows:
    algorithm = config.algorithm
    try:
        if name := algorithm.algorithm_mode:
            yield "rule", _first_line(resolve("algorithm", name)) or f"`{name}`, your own"
            return
        advantage = advantage_row(algorithm.advantage_mode)
        transform = transform_row(algorithm.transform_mode)
    except RetrainError:  # reported among the problems
        yield "rule", config.condition
        return
    yield "advantage", advantage.summary or f"`{algorithm.advantage_mode}`, your own"
    yield "transform", transform.summary or f"`{algorithm.transform_mode}`, your own"
    if transform.uses_sepa:
        yield "SEPA", _sepa(config)


def _first_line(function: object) -> str:
    return (function.__doc__ or "").strip().partition("\n")[0]


def _sepa(config: RunConfig) -> str:
    sepa = config.sepa
    gate = sepa.correct_rate_gate
    wait = f", not before a step's correct rate has reached {gate:g}" if gate > 0 else ""
    return f"{sepa.schedule}, from step {sepa.delay_steps} over {sepa.steps} steps{wait}"


def _backend(
    config: RunConfig,
    capabilities: Capabilities | None,
    options: TinkerOptions | None,
    plan: str,
) -> Rows:
    if capabilities is None:
        yield "can do", "not known here; see the problems below"
    else:
        yield from _differences(config, capabilities)
    backend = config.backend
    if backend.backend == "local":
        yield "devices", backend.devices
    yield from sampling(config)
    if plan:
        yield "engine", plan
    if not options:
        return
    yield "service", config.model.base_url or "the public one"
    shared = f", shared through {backend.throttle_dir}" if backend.throttle_dir else ""
    yield "calls at once", f"{backend.max_concurrent}{shared}"
    lag = "one step ahead of training" if options.max_steps_off_policy else "between training steps"
    yield "sampling", lag
    limits = [f"cost {money(options.max_cost)}" * bool(options.max_cost)]
    limits.append(f"{options.max_hours:g} hours" * bool(options.max_hours))
    yield "ends early at", " or ".join(filter(None, limits)) or "no limit of cost or hours"


def _differences(config: RunConfig, capabilities: Capabilities) -> Rows:
    temperature = config.training.temperature
    if not capabilities.trainer.lora_alpha:
        yield "lora.alpha", "cannot be set: the backend chooses the scale of the adapter itself"
    if not capabilities.trainer.lora_dropout:
        yield "lora.dropout", "cannot be set: the backend trains without dropout"
    if not capabilities.sampler.entropy:
        yield "entropy", "not reported; uncertainty is that of the sampled token"
    if capabilities.trainer.temperature:
        yield "temperature", f"{temperature:g}, in sampling and in training"
    elif temperature == 1:
        yield "temperature", "1, in sampling and in training"
    else:
        yield (
            "temperature",
            f"samples at {temperature:g}, but trains and scores at 1, whatever is set: ratios of "
            "trainer to sampler are not 1 even for the same weights; temperature = 1 avoids that",
        )
    if capabilities.trainer.resume == "exact":
        yield "resuming", "exact, as far as its devices are deterministic"
    else:
        yield (
            "resuming",
            "weights and optimiser, as far as the service keeps them; how exactly is measured at "
            "each resume and recorded as resume_fidelity",
        )


def _step(config: RunConfig, prompts: PromptLengths | None) -> Rows:
    training = config.training
    completions = training.batch_size * training.group_size
    yield "prompts", f"{training.batch_size:,}"
    if prompts:
        yield "their length", f"{prompts.mean:,.0f} tokens on average, {prompts.longest:,} at most"
    yield "completions", f"{completions:,}, {training.group_size} of each prompt"
    yield "their length", f"at most {training.max_tokens:,} tokens"
    yield "sampled", f"at most {completions * training.max_tokens:,} tokens"
    yield "learning rate", f"{toml_value(training.lr)}"


def _during_the_run(config: RunConfig, held_out: PromptLengths | None) -> Rows:
    training, evaluation = config.training, config.eval
    most = training.max_steps * training.batch_size * training.group_size * training.max_tokens
    yield "steps", f"{training.max_steps:,}, with at most {most:,} sampled tokens"
    if evaluation.every:
        count = len(evaluation.due_after(training.max_steps))
        questions = f"{held_out.counted:,} questions" if held_out else "the questions"
        answers = f"{evaluation.samples} completion{'s' * (evaluation.samples > 1)} each"
        temperature = evaluation.temperature_beside(training.temperature)
        yield (
            "evaluations",
            f"{count}: before the first step, every {evaluation.every} steps and at the end; "
            f"{questions}, {answers} at temperature {temperature:g}",
        )
    else:
        yield "evaluations", "none; set eval.every to evaluate"
    best = ", and at the best evaluation" if evaluation.every and training.keep_best else ""
    yield (
        "checkpoints",
        f"every {training.save_every} steps and at the end{best}; the newest "
        f"{training.keep_last} are kept",
    )


def _files(
    config: RunConfig, options: TinkerOptions | None, run_dir: Path | None, free: Path | None
) -> Rows:
    log_dir = Path(config.logging.log_dir)
    if run_dir and free and log_dir.exists() and run_dir.samefile(log_dir):
        yield "logs", f"{log_dir}, with `retrain --resume {run_dir}`"
    elif config.resume.from_:
        yield "logs", f"{config.resume.from_}, the run that is resumed"
        yield "", f"`retrain resume-check {config.resume.from_}` shows from where, and how exactly"
    elif free:
        yield "logs", str(free) if free == log_dir else f"{free} ({log_dir} holds another run)"
    yield "there", "config.toml, metadata.json, metrics.jsonl, emergence/, learning_curve.png"
    if config.eval.every:
        yield "", "eval.jsonl, eval/"
    if options:
        ttl = f"for {options.checkpoint_ttl_s:,} s" if options.checkpoint_ttl_s else "for ever"
        yield "checkpoints", f"kept by the service, {ttl}; their names are in trainer_state.json"
        copies = ", and downloaded with each checkpoint" if options.download_adapter else ""
        yield "adapters", f"kept by the service{copies}"
    else:
        yield "adapters", config.backend.adapter_path or "checkpoints/ and final/ there"


def _so_far(config: RunConfig, measured: Measured) -> Rows:
    yield "steps", f"{measured.steps:,} of {config.training.max_steps:,}"
    yield "time", f"{measured.hours:.2f} hours, about {measured.hours_at_end:.2f} at the end"


def _notes(
    prompts: PromptLengths | None, measured: Measured | None, options: TinkerOptions | None
) -> Iterator[str]:
    if options and prompts:
        yield f"Prompt lengths are those of the first {prompts.counted:,} prompts of the run."
    if options and not options.prices:
        yield "With [backend.options.prices] there would be a cost in every row."
    if options and options.max_cost:
        yield f"The run ends when it has cost backend.options.max_cost = {options.max_cost:g}."
    if options and measured and not measured.used:
        yield "The measured run was not charged for tokens, since its backend is no service."
