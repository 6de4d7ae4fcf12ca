import pytest

from retrain_backends.errors import ConfigError
from retrain_backends.tinker.options import Prices, TinkerOptions, parse_options

PRICES = {"prompt": 0.1, "sampled": 1, "trained": 2.5}


def test_defaults():
    options = parse_options({})
    assert options == TinkerOptions()
    assert (options.max_steps_off_policy, options.prices, options.max_cost) == (0, None, 0)


def test_everything_can_be_set():
    options = parse_options(
        {"max_steps_off_policy": 1, "prices": PRICES, "max_cost": 10, "train_mlp": False}
    )
    assert options.prices == Prices(prompt=0.1, sampled=1.0, trained=2.5)
    assert (options.max_cost, options.train_mlp) == (10, False)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"max_steps_off_policy": 2}, "max_steps_off_policy is `2`; it must be 0 or 1"),
        ({"max_steps_off_policy": True}, "max_steps_off_policy is `true`; it must be 0 or 1"),
        ({"timeout_s": 0}, "timeout_s is `0`; it must be a number > 0"),
        ({"max_failed_prompts": 1.5}, "it must be a number >= 0 and <= 1"),
        ({"max_costs": 1}, "max_costs is an unknown key; did you mean max_cost?"),
        ({"max_cost": 10}, "max_cost = 10 needs the prices of tokens: add prices"),
        ({"max_cost": float("inf")}, "max_cost is `inf`; it must be a number >= 0"),
        ({"prices": 3}, "prices is `3`; it must be a table with prompt, sampled and trained"),
    ],
)
def test_a_mistake_is_one_line(given, problem):
    with pytest.raises(ConfigError) as caught:
        parse_options(given)
    [line] = caught.value.problems
    assert line.startswith("[backend.options] ")
    assert problem in line


def test_all_mistakes_are_told_at_once():
    with pytest.raises(ConfigError) as caught:
        parse_options({"step_tokens": 0, "prices": {"prompt": -1, "sample": 1, "trained": 1}})
    assert caught.value.problems == (
        "[backend.options] step_tokens is `0`; it must be an integer >= 1",
        "[backend.options.prices] prompt is `-1`; it must be a number >= 0",
        "[backend.options.prices] sampled is missing; it must be a number >= 0",
        "[backend.options.prices] sample is an unknown key; did you mean sampled?",
    )
