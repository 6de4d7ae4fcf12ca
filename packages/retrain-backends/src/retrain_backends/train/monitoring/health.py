"""Health checks: figures of each step, with thresholds at which a run is warned of or stopped."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import numpy as np
from rich.console import Console

from retrain_backends.config import HealthConfig
from retrain_backends.errors import RunError
from retrain_backends.tracking.console import print_lines
from retrain_backends.tracking.journal import Row
from retrain_backends.train.step.optimise import dump_path
from retrain_backends.train.step.samples import Samples
from retrain_backends.types import StepResult
from retrain_core import distinct_ngram_share, offsets_from_lengths, segment_sum

NONFINITE = "nonfinite"
_MISMATCH = ("mean_abs_logprob_diff", "ratio_p99", "kl_k3")  # of sampler and trainer
_NGRAM, _SHORTEST, _DISTINCT = 8, 32, 0.5  # the definition of a repetitive completion


@dataclass(frozen=True)
class Check:
    """One figure with the thresholds `health.warn_<name>` and `health.stop_<name>`.

    `figure` is its name in `metrics.jsonl`, `text` its description with `{}` for the value, `form`
    the format of the value, and `advice` the first thing to try.
    """

    name: str
    figure: str
    text: str
    form: str
    advice: str
    small_is_bad: bool = False

    def breaks(self, value: float, threshold: float) -> bool:
        """Whether the value has reached the threshold; 0 switches it off."""
        if not threshold:
            return False
        return value <= threshold if self.small_is_bad else value >= threshold

    def describe(self, value: float) -> str:
        """The figure in words."""
        return self.text.format(format(value, self.form))


_MISMATCH_ADVICE = "compare inference.engine and inference.dtype with the trainer"
CHECKS = (
    Check(
        "logprob_diff",
        "mean_abs_logprob_diff",
        "log-probs of sampler and trainer differ by {} nats a token",
        ".3g",
        _MISMATCH_ADVICE,
    ),
    Check(
        "ratio_p99",
        "ratio_p99",
        "the ratio of trainer to sampler has a 99 % quantile of {}",
        ".3g",
        _MISMATCH_ADVICE,
    ),
    Check(
        "kl_k3",
        "kl_k3",
        "the KL divergence of the trainer from the sampler is about {} nats",
        ".3g",
        _MISMATCH_ADVICE,
    ),
    Check(
        "entropy",
        "token_entropy",
        "the policy's entropy is {} nats a token",
        ".3g",
        "lower training.lr or raise training.temperature",
        small_is_bad=True,
    ),
    Check(
        "truncated",
        "truncated_rate",
        "{} of the completions were cut off",
        ".0%",
        "raise training.max_tokens",
    ),
    Check(
        "repeated",
        "repeated_rate",
        "{} of the completions repeat themselves over and over",
        ".0%",
        "read them in emergence/generations.jsonl",
    ),
)


@dataclass(frozen=True)
class Health:
    """The health of one step.

    `figures` are those measured here, `warnings` the names of the checks whose thresholds were
    reached, `lines` the news for the console, and `stop` the reason to end the run, or None.
    """

    engine: str
    figures: Mapping[str, float | None]
    warnings: tuple[str, ...]
    lines: tuple[str, ...]
    stop: str | None

    def row(self) -> Row:
        """Columns of the metrics row."""
        return {"engine": self.engine, **self.figures, "health_warnings": list(self.warnings)}

    def act(self, console: Console) -> None:
        """Print the news, and end the run if a check requires it.

        Raises:
          RunError: a figure has reached its `stop_` threshold, or too many steps were not finite.
        """
        print_lines(console, *self.lines)
        if self.stop:
            raise RunError(self.stop)


@dataclass(frozen=True)
class _Finding:
    """A check with its measured value, and the key of the threshold that it reached, if any."""

    check: Check
    value: float
    key: str | None
    threshold: float

    @property
    def stops(self) -> bool:
        return bool(self.key and self.key.startswith("stop_"))

    @property
    def reason(self) -> str:
        return f"{self.check.describe(self.value)} (health.{self.key} = {self.threshold:g})"


class HealthMonitor:
    """Compares the figures of every step with the thresholds of `[health]`.

    Args:
      config: the thresholds.
      engine: name of the sampler's engine.
      dumps: directory of the batches whose loss or gradient was not finite.
    """

    def __init__(self, config: HealthConfig, engine: str, dumps: Path) -> None:
        self._config = config
        self._engine = engine
        self._dumps = dumps
        self._active: frozenset[str] = frozenset()
        self._checks = CHECKS

    def ignore_mismatch(self) -> None:
        """Stop checking the difference between sampler and trainer, because it is intended."""
        self._checks = tuple(check for check in CHECKS if check.figure not in _MISMATCH)

    def examine(
        self, step: int, samples: Samples, result: StepResult | None, nonfinite_steps: int
    ) -> Health:
        """Measure a step and compare it with the thresholds.

        Args:
          step: its index.
          samples: all its completions.
          result: of the optimiser step; None if nothing was trained.
          nonfinite_steps: steps so far, including this one, with a non-finite loss or gradient.
        """
        measured = sample_figures(samples)
        findings = list(self._findings({**measured, **_mismatch(result)}))
        warnings = [finding.check.name for finding in findings if finding.key]
        lines = list(self._changes(step, findings))
        stop = next((self._end(step, finding) for finding in findings if finding.stops), None)
        if result is not None and not result.is_finite:
            warnings.append(NONFINITE)
            event = self._event(step, result)
            if nonfinite_steps < self._config.max_nonfinite_steps:
                lines.append(event)
            else:
                stop = f"{event}; {self._too_many}"
        return Health(self._engine, measured, tuple(warnings), tuple(lines), stop)

    def _findings(self, figures: Mapping[str, float | None]) -> Iterator[_Finding]:
        """The measured checks, with the more severe of the thresholds they reached."""
        for check in self._checks:
            value = figures[check.figure]
            if value is None:
                continue
            limits = {
                key: getattr(self._config, key)
                for key in (f"stop_{check.name}", f"warn_{check.name}")
            }
            key = next((key for key, limit in limits.items() if check.breaks(value, limit)), None)
            yield _Finding(check, value, key, limits.get(key or "", 0.0))

    def _changes(self, step: int, findings: Sequence[_Finding]) -> Iterator[str]:
        """A line for each warning that starts or ends; updates the set of active warnings."""
        for finding in findings:
            name = finding.check.name
            if finding.key and name not in self._active:
                self._active |= {name}
                if not finding.stops:
                    yield f"step {step}: warning: {finding.reason}; {finding.check.advice}"
            elif not finding.key and name in self._active:
                self._active -= {name}
                yield f"step {step}: back to normal: {finding.check.describe(finding.value)}"

    def _end(self, step: int, finding: _Finding) -> str:
        return (
            f"step {step}: {finding.reason}, so the run stops: {finding.check.advice}, or set "
            f"health.{finding.key} to 0 to continue anyway"
        )

    @property
    def _too_many(self) -> str:
        limit = self._config.max_nonfinite_steps
        steps = "the first such step ends" if limit == 1 else f"{limit} such steps end"
        return f"{steps} the run (health.max_nonfinite_steps = {limit}); try a lower training.lr"

    def _event(self, step: int, result: StepResult) -> str:
        norm = result.grad_norm
        gradient = "" if norm is None else f" and the norm of its gradient {norm}"
        return (
            f"step {step}: the loss is {result.loss}{gradient}, so no optimiser step "
            f"was taken; the batch is in {dump_path(self._dumps, step)}"
        )


def sample_figures(samples: Samples) -> dict[str, float | None]:
    """Figures of the completions; None where there is nothing to measure.

    `token_entropy`: mean entropy of the sampled tokens if the engine reports it, else their mean
    surprisal, which estimates it, nats. `truncated_rate`: share of completions cut off at their
    maximum length. `repeated_rate`: share of completions with at least 32 sampled tokens, at most
    half of whose 8-grams are distinct.
    """
    if not samples.completions_n:
        return dict.fromkeys(("token_entropy", "truncated_rate", "repeated_rate"))
    sampled_t = samples.trainable_t
    sampled_n = segment_sum(sampled_t.astype(np.float64), offsets_from_lengths(samples.lengths_n))
    lengths_n = sampled_n.astype(np.int64)
    uncertainty_t = -samples.logprobs_t if samples.entropy_t is None else samples.entropy_t
    distinct_n = distinct_ngram_share(
        samples.tokens_t[sampled_t], offsets_from_lengths(lengths_n), n=_NGRAM
    )
    truncated = sum(row.stop_reason == "length" for row in samples.completions_n)
    return {
        "token_entropy": float(uncertainty_t[sampled_t].mean()) if sampled_t.any() else None,
        "truncated_rate": truncated / len(samples.completions_n),
        "repeated_rate": float(((lengths_n >= _SHORTEST) & (distinct_n <= _DISTINCT)).mean()),
    }


def _mismatch(result: StepResult | None) -> dict[str, float | None]:
    """Differences of sampler and trainer; None if nothing was trained, or if not finite."""
    figures = {name: result and getattr(result, name) for name in _MISMATCH}
    return {
        name: value if value is not None and isfinite(value) else None
        for name, value in figures.items()
    }
