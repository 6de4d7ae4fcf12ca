"""Forecasts the tokens and the cost of a run: upper bounds, and extrapolation of measured use."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from retrain_backends.config import CONFIG_FILE, RunConfig
from retrain_backends.errors import ConfigError
from retrain_backends.tinker.options import Prices
from retrain_backends.tinker.usage import TOTAL, TokenCount
from retrain_backends.tracking.journal import read_evaluations, read_metrics
from retrain_backends.train.prompts import load_task

_SAMPLE = 1000  # prompts whose lengths are measured


@dataclass(frozen=True)
class PromptLengths:
    """Lengths of prompts, in tokens.

    Args:
      counted: the number of prompts measured, the first ones of the run.
      mean: their mean length.
      longest: their largest length.
    """

    counted: int
    mean: float
    longest: int


@dataclass(frozen=True)
class Bounds:
    """Upper bounds of the tokens of a run, with every completion at its maximum length.

    Args:
      step: one training step.
      evaluation: one evaluation.
      evaluations: the number of evaluations.
      run: the whole run.
    """

    step: TokenCount
    evaluation: TokenCount
    evaluations: int
    run: TokenCount


@dataclass(frozen=True)
class Measured:
    """What a run has used so far, and an extrapolation to its last step.

    Args:
      steps: steps completed.
      hours: time taken, with evaluations.
      hours_at_end: time at the end of the run.
      used: tokens charged; None for a backend without charges.
      at_end: tokens charged at the end of the run.
    """

    steps: int
    hours: float
    hours_at_end: float
    used: TokenCount | None
    at_end: TokenCount | None


@dataclass(frozen=True)
class Amount:
    """A row of the table of tokens; `cost` is None without prices."""

    label: str
    tokens: TokenCount
    cost: float | None


def measure_prompts(config: RunConfig) -> tuple[PromptLengths, PromptLengths | None]:
    """Lengths of the training prompts, and of the held-out ones if there are any.

    Loads the tokenizer and the data.

    Raises:
      RetrainError: one of them cannot be loaded.
    """
    training = config.training
    if training.seed < 0:  # the order does not matter
        training = training.model_copy(update={"seed": 0})
    task = load_task(config.model, config.data, training, config.eval)
    prompts = task.prompts.batch(0, min(_SAMPLE, training.max_steps * training.batch_size))
    return (
        _lengths([len(prompt.tokens) for prompt in prompts]),
        _lengths([len(prompt.tokens) for _, prompt in task.held_out]) if task.held_out else None,
    )


def bounds(config: RunConfig, prompts: PromptLengths, held_out: PromptLengths | None) -> Bounds:
    """Upper bounds of the tokens of a run.

    With B prompts of mean length p in a step, and G completions of at most M tokens each:
    B p are read, B G M sampled, and B G (p + M) trained on, since a sequence is charged with its
    prompt. An evaluation only samples. Calls without data of the run are not counted.
    """
    training = config.training
    completions = training.batch_size * training.group_size
    step = TokenCount(
        prompt=round(training.batch_size * prompts.mean),
        sampled=completions * training.max_tokens,
        trained=round(completions * (prompts.mean + training.max_tokens)),
    )
    questions = held_out.counted if held_out else 0
    evaluation = TokenCount(
        prompt=round(questions * held_out.mean) if held_out else 0,
        sampled=questions * config.eval.samples * training.max_tokens,
    )
    evaluations = len(config.eval.due_after(training.max_steps))
    run = step.times(training.max_steps) + evaluation.times(evaluations)
    return Bounds(step, evaluation, evaluations, run)


def measure_run(run_dir: Path, max_steps: int) -> Measured:
    """What a run has used according to its logs; the remaining steps are taken as average.

    Raises:
      ConfigError: there is no run, or it has not finished a step.
    """
    rows = read_metrics(run_dir)
    if not rows:
        problem = "has no finished step yet" if (run_dir / CONFIG_FILE).exists() else "is no run"
        raise ConfigError(
            f"--from: {run_dir} {problem}; name the directory of a run with a finished step"
        )
    steps = rows[-1]["step"] + 1
    factor = max(max_steps, steps) / steps
    seconds = sum(row["step_time_s"] for row in rows)
    seconds += sum(row["time_s"] for row in read_evaluations(run_dir))
    used = (
        TokenCount.from_figures(rows[-1], TOTAL)
        if set(TokenCount().figures(TOTAL)) <= set(rows[-1])
        else None
    )
    return Measured(
        steps=steps,
        hours=seconds / 3600,
        hours_at_end=seconds * factor / 3600,
        used=used,
        at_end=used and used.times(factor),
    )


def amounts(
    most: Bounds | None, measured: Measured | None, prices: Prices | None
) -> Iterator[Amount]:
    """The rows of the token table: upper bounds and measured use, as far as they are known."""

    def amount(label: str, tokens: TokenCount) -> Amount:
        return Amount(label, tokens, tokens.cost(prices) if prices else None)

    if most:
        yield amount("a step, at most", most.step)
        if most.evaluations:
            yield amount("an evaluation, at most", most.evaluation)
        yield amount("the whole run, at most", most.run)
    if measured and measured.used and measured.at_end:
        yield amount(f"used in {measured.steps:,} steps", measured.used)
        yield amount(
            "a step with its share of evaluations", measured.used.times(1 / measured.steps)
        )
        yield amount("the whole run, extrapolated", measured.at_end)


def _lengths(lengths: Sequence[int]) -> PromptLengths:
    return PromptLengths(len(lengths), fmean(lengths), max(lengths))
