import numpy as np
import pytest

from retrain_campaign.statistics.simulated_outcomes import (
    Population,
    simulated_metrics,
    simulated_pairs,
)


def joined(population, repetitions):
    chunks = list(simulated_pairs(population, repetitions, np.random.default_rng(1)))
    differences = np.concatenate([chunk.differences for chunk in chunks])
    return differences, np.concatenate([chunk.on_these for chunk in chunks]), chunks[0].on_new


@pytest.mark.parametrize(
    "population",
    [
        Population(seeds=3, questions=100, effect=0.8),
        Population(seeds=3, questions=100, effect=0.5, interaction=1.0, easiness=2.0),
        Population(seeds=3, questions=100, between_runs=0.5, heavy_tails=True),
    ],
)
def test_the_true_differences_are_those_of_the_simulated_outcomes(population):
    differences, on_these, on_new = joined(population, 1_500)
    means = differences.mean(axis=(1, 2))
    assert means.mean() == pytest.approx(on_new, abs=0.004)
    assert (means - on_these).mean() == pytest.approx(0, abs=0.004)
    assert (means - on_these).std() <= means.std()


def test_chunks_have_all_repetitions():
    differences, on_these, _ = joined(Population(seeds=8, questions=1000), 130)
    assert differences.shape == (130, 8, 1000)
    assert on_these.shape == (130,)
    assert set(np.unique(differences)) <= {value / 4 for value in range(-4, 5)}


@pytest.mark.parametrize("heavy_tails", [False, True])
def test_metrics_scatter_as_told(heavy_tails):
    rng = np.random.default_rng(2)
    values = simulated_metrics((1.0, 3.0), (4_000, 3), rng, heavy_tails)
    assert values.shape == (4_000, 2, 3)
    within = np.abs(values - values.mean(axis=2, keepdims=True)).mean(axis=(0, 2))
    assert within[1] > 1.5 * within[0]
