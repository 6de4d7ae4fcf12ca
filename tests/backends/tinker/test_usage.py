import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from retrain_backends.tinker.options import Prices
from retrain_backends.tinker.usage import TokenCount, UsageMeter, money

PRICES = Prices(prompt=1.0, sampled=2.0, trained=4.0)
MILLION = 10**6


class Clock:
    """Stands still until it is moved."""

    def __init__(self):
        self.now_s = 50.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


def test_figures_of_a_step_and_of_the_run(clock):
    usage = UsageMeter(PRICES, clock=clock)
    usage.add(prompt=MILLION)
    usage.add(sampled=MILLION, trained=2 * MILLION)
    assert usage.take().figures["cost"] == 11.0
    usage.add(sampled=500_000)
    clock.now_s += 1800
    usage = usage.take()
    assert usage.figures == {
        "prompt_tokens_charged": 0,
        "sampled_tokens_charged": 500_000,
        "trained_tokens_charged": 0,
        "prompt_tokens_charged_total": MILLION,
        "sampled_tokens_charged_total": 1_500_000,
        "trained_tokens_charged_total": 2 * MILLION,
        "cost": 12.0,
        "hours": 0.5,
    }
    assert usage.stop == ""


def test_without_prices_there_is_no_cost(clock):
    usage = UsageMeter(None, clock=clock)
    usage.add(prompt=1)
    assert usage.cost is None
    assert "cost" not in usage.take().figures


def test_a_budget_that_is_spent_stops_the_run(clock):
    usage = UsageMeter(PRICES, max_cost=10, max_hours=2, clock=clock)
    usage.add(trained=2 * MILLION)
    assert usage.take().stop == ""
    usage.add(sampled=MILLION + 10_000)
    cost = "the run has cost 10.02, and backend.options.max_cost = 10 (raise it to continue)"
    assert usage.take().stop == cost
    clock.now_s += 7236
    assert usage.take().stop.endswith(
        "; the run has taken 2.01 hours, and backend.options.max_hours = 2 (raise it to continue)"
    )


def test_a_resumed_run_goes_on_counting(clock):
    usage = UsageMeter(PRICES, max_cost=10, max_hours=1, clock=clock)
    usage.add(prompt=3, sampled=2 * MILLION, trained=5)
    clock.now_s += 1800
    state = json.loads(json.dumps(usage.state()))
    clock.now_s += 86400
    resumed = UsageMeter(PRICES, max_cost=10, max_hours=1, clock=clock)
    resumed.add(prompt=1)  # a probe before the state is read
    resumed.restore(state)
    assert resumed.totals == TokenCount(3, 2 * MILLION, 5)
    assert resumed.hours == 0.5
    resumed.add(trained=2 * MILLION)
    clock.now_s += 1800
    usage = resumed.take()
    assert usage.figures["trained_tokens_charged"] == 2 * MILLION
    assert usage.figures["trained_tokens_charged_total"] == 2 * MILLION + 5
    assert "cost" in usage.stop
    assert "hours" in usage.stop


def test_going_back_to_a_checkpoint_gives_no_money_back(clock):
    usage = UsageMeter(PRICES, clock=clock)
    usage.add(sampled=1)
    state = usage.state()
    usage.add(sampled=9)
    clock.now_s += 36
    usage.restore(state)
    assert usage.totals == TokenCount(sampled=10)
    assert usage.hours == pytest.approx(0.01)


def test_threads_lose_nothing():
    usage = UsageMeter(None)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(4000):
            pool.submit(usage.add, prompt=1, sampled=2, trained=3)
    assert usage.totals == TokenCount(4000, 8000, 12000)


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0.0, "0.0"), (0.7, "0.70"), (0.01234, "0.012"), (1.0, "1.00"), (12345.678, "12,345.68")],
)
def test_money(amount, text):
    assert money(amount) == text
