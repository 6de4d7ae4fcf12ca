from contextlib import chdir
from functools import wraps

import numpy as np
import pytest

from retrain_backends.config import load_config
from retrain_backends.errors import ConfigError, PluginError
from retrain_backends.train.step.learning_rule import build_rule
from retrain_backends.train.step.modes import advantage_row, transform_row
from retrain_core import (
    ADVANTAGE_MODES,
    TRANSFORM_MODES,
    AdvantageSpec,
    CompletionBatch,
    TransformSpec,
    spread,
)


def ranks(rewards):
    """Ranks of the rewards."""
    return np.argsort(np.argsort(rewards)).astype(float)


def discounted(tokens, *, decay):
    offsets = tokens.batch.token_offsets
    position = np.arange(offsets[-1]) - spread(offsets[:-1].astype(float), offsets)
    return spread(tokens.advantages, offsets) * decay**position


def make_discounted():
    return TransformSpec(discounted, {"decay": 0.5}, uses_sepa=False, summary="early tokens first")


DISCOUNTED = make_discounted()


def make_with_options(*, decay=0.25, **options):
    return TransformSpec(discounted, {"decay": decay})


def of_any_arguments(*args, **kwargs):
    return ranks(*args, **kwargs)


@wraps(make_discounted)
def decorated_factory(*args):
    return make_discounted(*args)


def make_advantage():
    return AdvantageSpec("numpy:asarray", summary="as they are")


def make_number():
    return 3


def make_failing():
    raise KeyError("decay")


def make_without_function():
    return TransformSpec(None)


def make_with_list():
    return TransformSpec(discounted, ["decay"])


def make_leading_nowhere():
    return TransformSpec("numpy:no_such_function")


def test_a_built_in_has_the_row_of_core():
    assert advantage_row("maxrl") is ADVANTAGE_MODES["maxrl"]
    assert transform_row("gtpo") is TRANSFORM_MODES["gtpo"]


@pytest.mark.parametrize("name", ["ranks", "of_any_arguments"])
def test_a_function_becomes_a_row(name):
    row = advantage_row(f"{__name__}:{name}")
    assert row(np.array([0.5, 0.1])).tolist() == [1, 0]


@pytest.mark.parametrize("name", ["make_discounted", "DISCOUNTED", "decorated_factory"])
def test_a_row_or_what_returns_one_is_the_row(name):
    assert transform_row(f"{__name__}:{name}") == DISCOUNTED


def test_a_factory_may_have_parameters_with_defaults():
    assert transform_row(f"{__name__}.make_with_options").parameters == {"decay": 0.25}


def test_a_row_may_name_its_function():
    assert advantage_row(f"{__name__}.make_advantage").summary == "as they are"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("make_number", "can be called without arguments, but returns `int`; the transform must"),
        ("make_advantage", r"returns `AdvantageSpec`; .* a row `TransformSpec\(...\)`, or a"),
        ("make_failing", "cannot be used: KeyError: 'decay'"),
        ("make_without_function", "TransformSpec.function must be a function, not `None`"),
        ("make_with_list", r"TransformSpec.parameters must be a table .*, not `\['decay'\]`"),
        ("make_leading_nowhere", "`numpy:no_such_function`: `numpy` has no `no_such_function`"),
    ],
)
def test_what_is_no_mode_is_refused_in_a_line(name, message):
    with pytest.raises(PluginError, match=f"algorithm.transform_mode: `.*{message}") as refused:
        transform_row(f"{__name__}:{name}")
    assert "\n" not in str(refused.value)


def test_a_row_in_the_place_of_the_other_kind():
    with pytest.raises(PluginError, match=r"advantage_mode: .* is `TransformSpec`; the advantage"):
        advantage_row(f"{__name__}:DISCOUNTED")


@pytest.fixture
def batch():
    return CompletionBatch([1.0, 0.0], [0, 2], [0, 2, 4], [-0.1, -0.2, -0.3, -0.4])


@pytest.mark.parametrize(("params", "decay"), [({}, 0.5), ({"decay": 0.25}, 0.25)])
def test_parameters_of_a_plugin_row_come_from_its_table(batch, params, decay):
    rule = {"advantage_mode": "grpo", "transform_mode": f"{__name__}:make_discounted"}
    tables = {
        **{f"algorithm.{k}": v for k, v in rule.items()},
        "algorithm.transform_params": params,
    }
    config = load_config(None, tables)
    values = build_rule(config.algorithm, config.gtpo, config.hicra)(batch).values
    np.testing.assert_allclose(values, [0.5, 0.5 * decay, -0.5, -0.5 * decay])


def test_a_parameter_that_no_row_lists_is_refused_with_the_nearest():
    tables = {
        "algorithm.transform_mode": f"{__name__}:make_discounted",
        "algorithm.transform_params": {"decai": 0.5},
    }
    config = load_config(None, tables)
    with pytest.raises(ConfigError, match=r"unknown parameter `decai`.*did you mean `decay`"):
        build_rule(config.algorithm, config.gtpo, config.hicra)


def test_a_plugin_in_the_working_directory(tmp_path):
    (tmp_path / "modes_of_mine.py").write_text(
        "from retrain_core import AdvantageSpec\n"
        "def make():\n    return AdvantageSpec(lambda rewards: rewards, summary='as they are')\n"
    )
    with chdir(tmp_path):
        assert advantage_row("modes_of_mine.make").summary == "as they are"
