"""How many tokens a run will use and what they cost: at most, and judged by what it has used."""

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

_LOOKED_AT = 1000  # prompts whose lengths stand for those of a longer run


@dataclass(frozen=True)
class PromptLengths:
    """How long prompts are, in tokens.

    Args:
      counted: how many were looked at, the first ones of the run.
      mean: of them.
      longest: of them.
    """

    counted: int
    mean: float
    longest: int


@dataclass(frozen=True)
class Bounds:
    """The most tokens that a run can use, each of its completions being as long as is allowed.

    Args:
      step: one training step.
      evaluation: one evaluation.
      evaluations: how many there are.
      run: all of them together.
    """

    step: TokenCount
    evaluation: TokenCount
    evaluations: int
    run: TokenCount


@dataclass(frozen=True)
class Measured:
    """What a run has used, and what it will have used after its last step if it goes on so.

    Args:
      steps: that are done.
      hours: that it took, evaluations included.
      hours_at_end: hours and the rest.
      used: tokens charged; None for a backend that charges none.
      at_end: tokens used and the rest.
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
    """Lengths of the prompts that are trained on, and of the held-out ones if there are any.

    Loads the tokenizer and the data.

    Raises:
      RetrainError: one of them cannot be had.
    """
    training = config.training
    if training.seed < 0:  # any order will do
        training = training.model_copy(update={"seed": 0})
    task = load_task(config.model.model, config.data, training, config.eval)
    prompts = task.prompts.batch(0, min(_LOOKED_AT, training.max_steps * training.batch_size))
    return (
        _lengths([len(prompt.tokens) for prompt in prompts]),
        _lengths([len(prompt.tokens) for _, prompt in task.held_out]) if task.held_out else None,
    )


def bounds(config: RunConfig, prompts: PromptLengths, held_out: PromptLengths | None) -> Bounds:
    """The most tokens that a run can use.

    With B prompts of mean length p in a step, G completions of at most M tokens each:
    B p are read, B G M sampled, and B G (p + M) trained on, since a sequence is charged with its
    prompt. An evaluation samples only. Calls that look at the service, not at data, are left out.
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
    """What a run has used by its logs; the rest is as its steps were on average.

    Raises:
      ConfigError: there is no run, or it has not finished a step.
    """
    rows = read_metrics(run_dir)
    if not rows:
        what = "has no finished step yet" if (run_dir / CONFIG_FILE).exists() else "is no run"
        raise ConfigError(f"--from: {run_dir} {what}; name the directory of a run that has begun")
    steps = rows[-1]["step"] + 1
    longer = max(max_steps, steps) / steps
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
        hours_at_end=seconds * longer / 3600,
        used=used,
        at_end=used and used.times(longer),
    )


def amounts(
    most: Bounds | None, measured: Measured | None, prices: Prices | None
) -> Iterator[Amount]:
    """The table of tokens: the most that is possible, and what was measured, as far as known."""

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
        yield amount("the whole run, if it goes on so", measured.at_end)


def _lengths(lengths: Sequence[int]) -> PromptLengths:
    return PromptLengths(len(lengths), fmean(lengths), max(lengths))
