"""Outcomes of campaigns whose true differences are known, for `selfcheck`.

Shapes: R repetitions, S seeds, Q questions, K conditions.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from retrain_backends.types import Floats

_BETWEEN_QUESTIONS = 1.5  # standard deviations, in logits
_BETWEEN_SEEDS = 0.1  # shared by both conditions
_QUESTION_BY_RUN = 0.5
_HEAVY_DF = 2.5
_CELLS = 1_000_000  # of [R, S, Q] at once


@dataclass(frozen=True)
class Population:
    """Two conditions whose runs answer questions: the log-odds of an answer are a sum of effects.

    Args:
      seeds, questions: numbers of seeds and questions.
      between_runs: standard deviation between runs of a condition, in logits.
      effect: of the treatment, in logits.
      interaction: standard deviation of that effect between questions.
      easiness: log-odds of the average question; 4 means about 95 % correct.
      heavy_tails: runs vary by Student's t with 2.5 degrees of freedom; needs an effect of 0.
    """

    seeds: int = 5
    questions: int = 200
    between_runs: float = 0.15
    effect: float = 0.0
    interaction: float = 0.0
    easiness: float = 0.0
    heavy_tails: bool = False


@dataclass(frozen=True)
class SimulatedPairs:
    """Simulated outcomes of two conditions.

    Args:
      differences: treatment minus control, by question, shape [R, S, Q].
      on_these: the true difference on the questions of each repetition, shape [R].
      on_new: the true difference on all questions of the kind.
    """

    differences: Floats
    on_these: Floats
    on_new: float


def simulated_pairs(
    population: Population, repetitions: int, rng: np.random.Generator
) -> Iterator[SimulatedPairs]:
    """Simulated campaigns, four completions to a question, in chunks that fit in memory."""
    chunk = max(_CELLS // (population.seeds * population.questions), 1)
    for start in range(0, repetitions, chunk):
        yield _pairs(population, min(chunk, repetitions - start), rng)


def simulated_metrics(
    scales: Sequence[float],
    shape: tuple[int, int],
    rng: np.random.Generator,
    heavy_tails: bool = False,
) -> Floats:
    """Metrics of runs of equal conditions, shape [R, K, S].

    Args:
      scales: standard deviation between runs of each condition.
      shape: repetitions and seeds.
      rng: of the draws.
      heavy_tails: Student's t with 2.5 degrees of freedom, not normal.
    """
    repetitions, seeds = shape
    size = (repetitions, len(scales), seeds)
    noise = rng.standard_t(_HEAVY_DF, size) if heavy_tails else rng.standard_normal(size)
    return noise * np.array(scales)[:, None] + rng.standard_normal((repetitions, 1, seeds))


def _pairs(population: Population, repetitions: int, rng: np.random.Generator) -> SimulatedPairs:
    size = (repetitions, 2, population.seeds)
    questions = population.easiness + _BETWEEN_QUESTIONS * rng.standard_normal(
        (repetitions, population.questions)
    )
    effects = population.effect + population.interaction * rng.standard_normal(questions.shape)
    runs = rng.standard_t(_HEAVY_DF, size) if population.heavy_tails else rng.standard_normal(size)
    runs = population.between_runs * runs
    runs += _BETWEEN_SEEDS * rng.standard_normal((repetitions, 1, population.seeds))
    logits = rng.standard_normal((*size, population.questions), dtype=np.float32)
    logits *= _QUESTION_BY_RUN
    logits += runs.astype(np.float32)[..., None]
    logits[:, 0] += questions.astype(np.float32)[:, None]
    logits[:, 1] += (questions + effects).astype(np.float32)[:, None]
    chances = expit(logits)
    correct = sum(
        (rng.random(chances.shape, dtype=np.float32) < chances).astype(np.int8) for _ in range(4)
    )
    values = np.asarray(correct, dtype=np.float64) / 4
    return SimulatedPairs(
        differences=values[:, 1] - values[:, 0],
        on_these=_on_these(population, questions, effects),
        on_new=_on_new(population),
    )


def _on_these(population: Population, questions: Floats, effects: Floats) -> Floats:
    if population.heavy_tails:  # no closed form, and 0 by symmetry
        return np.zeros(len(questions))
    deviation = np.sqrt(_variance_of_run(population))
    treated = _mean_chance(questions + effects, deviation)
    return (treated - _mean_chance(questions, deviation)).mean(axis=-1)


def _on_new(population: Population) -> float:
    if population.heavy_tails:
        return 0.0
    variance = _variance_of_run(population) + _BETWEEN_QUESTIONS**2
    centre = np.array(population.easiness)
    treated = _mean_chance(
        centre + population.effect, np.sqrt(variance + population.interaction**2)
    )
    return float(treated - _mean_chance(centre, np.sqrt(variance)))


def _variance_of_run(population: Population) -> float:
    return _BETWEEN_SEEDS**2 + _QUESTION_BY_RUN**2 + population.between_runs**2


def _mean_chance(centre: Floats, deviation: float) -> Floats:
    """Mean of expit over a normal distribution, by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(20)
    return expit(centre[..., None] + deviation * nodes) @ (weights / weights.sum())
