"""The error rates of all tests, by simulation of campaigns whose true differences are known."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from retrain_backends.types import Floats, Mask
from retrain_campaign.statistics.estimates import Estimate, crossed, paired_t, sign_flip
from retrain_campaign.statistics.families import (
    against_first,
    holm,
    max_t_critical,
    pooled_t,
)
from retrain_campaign.statistics.sequential import (
    FUTILITY_LOOKS,
    anytime_p_value,
    confidence_sequence,
    stops_for_futility,
)
from retrain_campaign.statistics.simulated_outcomes import (
    Population,
    simulated_metrics,
    simulated_pairs,
)

REPETITIONS = 20_000
QUICK_REPETITIONS = 1_000
ALPHA = 0.05
_SEED = 16
_SEEDS = (3, 4, 5, 6, 8)
_FAMILIES = (1, 4, 8)


@dataclass(frozen=True)
class ErrorRates:
    """The rates of a check over all its settings.

    Args:
      name: what is checked.
      settings: number of settings.
      lowest, highest: smallest and largest rate of a setting.
      at_most, at_least: what the rates should keep; both None for one that is shown only.
      error: Monte Carlo standard error of a rate.
    """

    name: str
    settings: int
    lowest: float
    highest: float
    at_most: float | None
    at_least: float | None
    error: float

    @property
    def holds(self) -> bool:
        """Whether all rates keep the limit, apart from 2.6 Monte Carlo standard errors."""
        slack = 2.6 * self.error
        above = self.at_most is not None and self.highest > self.at_most + slack
        below = self.at_least is not None and self.lowest < self.at_least - slack
        return not (above or below)


def check_error_rates(repetitions: int = REPETITIONS) -> Iterator[ErrorRates]:
    """Measure all error rates; each check is yielded as it is done."""
    yield from _intervals_of_questions(repetitions)
    yield from _sign_flips(repetitions)
    yield from _families(repetitions)
    yield _false_equivalence(repetitions)
    yield _futility(repetitions)
    yield from _looks(repetitions)


def populations() -> list[Population]:
    """The settings of the intervals: seeds, questions and departures from the usual ones."""
    usual = Population()
    kinds = [
        usual,
        replace(usual, between_runs=0.0),
        replace(usual, between_runs=0.4),
        replace(usual, interaction=0.5),
        replace(usual, interaction=1.0),
        replace(usual, easiness=4.0),
        replace(usual, easiness=4.0, interaction=0.5),
        replace(usual, heavy_tails=True),
        replace(usual, effect=0.3),
        replace(usual, effect=0.3, interaction=0.5, between_runs=0.4),
    ]
    sizes = product(_SEEDS, (50, 200), kinds)
    found = [replace(kind, seeds=seeds, questions=asked) for seeds, asked, kind in sizes]
    return found + [replace(usual, seeds=seeds, questions=1000) for seeds in (3, 8)]


def _intervals_of_questions(repetitions: int) -> Iterator[ErrorRates]:
    rates: dict[tuple[bool, bool], list[float]] = {}
    for index, population in enumerate(populations()):
        missed = np.zeros(2)
        for simulated in simulated_pairs(population, repetitions, _rng(1, index)):
            by_seed = paired_t(simulated.differences.mean(axis=-1))
            missed[0] += _excludes(by_seed, simulated.on_these).sum()
            missed[1] += _excludes(crossed(simulated.differences), simulated.on_new).sum()
        for new in (False, True):
            rates.setdefault((new, population.effect > 0), []).append(
                missed[int(new)] / repetitions
            )
    for new, name in ((False, "these questions"), (True, "new questions")):
        yield _at_most(f"{name}: false alarms", rates[new, False], 0.06, repetitions)
        covered = [1 - rate for rate in rates[new, True]]
        yield _at_least(f"{name}: coverage", covered, 0.94, repetitions)


def _sign_flips(repetitions: int) -> Iterator[ErrorRates]:
    rates = [
        float((sign_flip(metrics[:, 1] - metrics[:, 0]) <= ALPHA).mean())
        for index, (seeds, heavy) in enumerate(product((6, 8), (False, True)))
        for metrics in [simulated_metrics((1, 1), (repetitions, seeds), _rng(2, index), heavy)]
    ]
    yield _at_most("sign flips: false alarms", rates, 0.05, repetitions)


def _families(repetitions: int) -> Iterator[ErrorRates]:
    holm_rates, covered, pooled, pooled_unequal = [], [], [], []
    settings = product((3, 5, 8), _FAMILIES, ("equal", "noisy control", "heavy", "partly"))
    for index, (seeds, count, kind) in enumerate(settings):
        scales = [2.0 if kind == "noisy control" else 1.0, *[1.0] * count]
        metrics = simulated_metrics(scales, (repetitions, seeds), _rng(3, index), kind == "heavy")
        null = np.ones(count, bool)
        if kind == "partly":  # other contrasts are rejected first
            null[: count // 2] = False
            metrics[:, 1 : 1 + count // 2] += 4
        truth = np.where(null, 0, 4)
        each = paired_t(metrics[:, 1:] - metrics[:, :1])
        holm_rates.append(_any(holm(each.p_value())[:, null] <= ALPHA))
        low, high = each.interval(ALPHA / count)
        covered.append(1 - _any((truth < low) | (truth > high)))
        pairs = against_first(count)
        family = pooled_t(metrics, pairs)
        half = family.half_width(max_t_critical(ALPHA, pairs, int(family.df.flat[0])))
        missed = _any(np.abs(family.mean - truth) > half)
        (pooled if kind in ("equal", "partly") else pooled_unequal).append(missed)
    yield _at_most("Holm: family-wise false alarms", holm_rates, 0.06, repetitions)
    yield _at_least("all intervals together: coverage", covered, 0.94, repetitions)
    yield _at_most("pooled: family-wise false alarms", pooled, 0.06, repetitions)
    yield _shown("the same, unequal spread", pooled_unequal, repetitions)


def _false_equivalence(repetitions: int) -> ErrorRates:
    rates = []
    for index, (seeds, count, margin) in enumerate(product((3, 5, 8), (1, 4), (0.5, 1, 2, 4))):
        metrics = simulated_metrics([1.0] * (count + 1), (repetitions, seeds), _rng(4, index))
        differences = metrics[:, 1:] - metrics[:, :1] + margin
        p_values = paired_t(differences).p_equivalence(margin)
        rates.append(_any(holm(p_values) <= ALPHA))
    return _at_most("equivalence: false alarms", rates, 0.05, repetitions)


def _futility(repetitions: int) -> ErrorRates:
    rates = []
    for index, (count, margin) in enumerate(product((1, 4), (0.5, 1.5, 3.0))):
        metrics = simulated_metrics([1.0] * (count + 1), (repetitions, 8), _rng(5, index))
        differences = metrics[:, 1:] - metrics[:, :1]
        stopped = np.zeros(differences.shape[:-1], bool)
        for look in FUTILITY_LOOKS:
            stopped |= stops_for_futility(differences[..., :look], margin)
        p_values = np.where(stopped, 1, paired_t(differences).p_value())
        rates.append(_any(holm(p_values) <= ALPHA))
    return _at_most("futility: false alarms", rates, 0.05, repetitions)


def _looks(repetitions: int) -> Iterator[ErrorRates]:
    alarms, outside, naive = [], [], []
    for index, (seeds, heavy) in enumerate(product((8, 16), (False, True))):
        metrics = simulated_metrics((1, 1), (repetitions, seeds), _rng(6, index), heavy)
        differences = metrics[:, 1] - metrics[:, 0]
        alarms.append(float((anytime_p_value(differences) <= ALPHA).mean()))
        missed = np.zeros(repetitions, bool)
        t_missed = np.zeros(repetitions, bool)
        for count in range(3, seeds + 1):
            seen = differences[:, :count]
            low, high = confidence_sequence(seen, ALPHA)
            missed |= (low > 0) | (high < 0)
            t_missed |= paired_t(seen).p_value() <= ALPHA
        outside.append(1 - float(missed.mean()))
        naive.append(float(t_missed.mean()))
    yield _at_most("e-values: false alarms", alarms, 0.05, repetitions)
    yield _at_least("intervals at all looks: coverage", outside, 0.95, repetitions)
    yield _shown("paired t at each look (not used)", naive, repetitions)


def _excludes(estimate: Estimate, truth: Floats | float) -> Mask:
    low, high = estimate.interval(ALPHA)
    return (truth < low) | (truth > high)


def _any(rejected: Mask) -> float:
    return float(rejected.any(axis=-1).mean())


def _rng(*key: int) -> np.random.Generator:
    return np.random.default_rng([_SEED, *key])


def _at_most(name: str, rates: Sequence[float], limit: float, repetitions: int) -> ErrorRates:
    return _check(name, rates, repetitions, at_most=limit)


def _at_least(name: str, rates: Sequence[float], limit: float, repetitions: int) -> ErrorRates:
    return _check(name, rates, repetitions, at_least=limit)


def _shown(name: str, rates: Sequence[float], repetitions: int) -> ErrorRates:
    return _check(name, rates, repetitions)


def _check(
    name: str,
    rates: Sequence[float],
    repetitions: int,
    at_most: float | None = None,
    at_least: float | None = None,
) -> ErrorRates:
    error = float(np.sqrt(0.05 * 0.95 / repetitions))
    return ErrorRates(name, len(rates), min(rates), max(rates), at_most, at_least, error)
