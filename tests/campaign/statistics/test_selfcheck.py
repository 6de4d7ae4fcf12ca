import pytest

from retrain_campaign.statistics.selfcheck import (
    REPETITIONS,
    ErrorRates,
    check_error_rates,
    populations,
)


def test_every_number_of_seeds_is_in_the_settings():
    assert {population.seeds for population in populations()} == {3, 4, 5, 6, 8}
    assert {population.questions for population in populations()} == {50, 200, 1000}


@pytest.mark.parametrize(
    ("lowest", "highest", "limits", "holds"),
    [
        (0.02, 0.06, (0.06, None), True),
        (0.02, 0.08, (0.06, None), False),
        (0.95, 0.97, (None, 0.94), True),
        (0.91, 0.97, (None, 0.94), False),
        (0.0, 1.0, (None, None), True),
    ],
)
def test_rates_keep_their_limits_apart_from_simulation_error(lowest, highest, limits, holds):
    assert ErrorRates("x", 3, lowest, highest, *limits, error=0.005).holds is holds


@pytest.mark.slow
def test_the_error_rates_hold():
    found = list(check_error_rates(1_000))
    assert [rates.name for rates in found if not rates.holds] == []
    assert len(found) == 14
    peeking = found[-1]
    assert peeking.lowest > 0.1  # what the simulation is sensitive to


def test_the_whole_check_runs_with_few_repetitions():
    assert all(0 <= rates.lowest <= rates.highest <= 1 for rates in check_error_rates(10))
    assert REPETITIONS > 10
