import inspect
import subprocess
import sys
from importlib import import_module

import numpy as np
import pytest

from retrain_core import ADVANTAGE_MODES, TRANSFORM_MODES, AdvantageSpec, Algorithm, TransformSpec

ROWS = [*ADVANTAGE_MODES.items(), *TRANSFORM_MODES.items()]


@pytest.mark.parametrize(("name", "row"), ROWS, ids=[name for name, _ in ROWS])
def test_a_row_lists_the_parameters_of_its_function(name, row):
    module, _, function_name = row.function.partition(":")
    assert function_name == name
    _, *parameters = inspect.signature(getattr(import_module(module), name)).parameters.values()
    assert [parameter.name for parameter in parameters] == list(row.parameters)
    for parameter in parameters:
        assert parameter.default in (parameter.empty, row.parameters[parameter.name])


@pytest.mark.parametrize(("name", "row"), ROWS, ids=[name for name, _ in ROWS])
def test_a_row_has_a_summary_for_the_middle_of_a_sentence(name, row):
    assert row.summary
    assert not row.summary.endswith(".")


def test_the_transforms_that_use_sepa():
    assert {name for name, row in TRANSFORM_MODES.items() if row.uses_sepa} == {
        "gtpo_sepa",
        "gtpo_sepa_amp",
        "gtpo_sepa_amp_c",
    }


def test_every_transform_needs_a_group_alone():
    """See `test_concatenating_groups_changes_nothing`; a plain function may need the step."""
    assert all(row.by_group for row in TRANSFORM_MODES.values())
    assert not TransformSpec.from_function(lambda tokens: tokens).by_group


def test_the_rows_are_read_without_numpy():
    code = "import sys; from retrain_core import TRANSFORM_MODES; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def scaled(rewards, scale, *, offset=0.0):
    """Scale the rewards.

    And more.
    """
    return scale * rewards + offset


def test_the_row_of_a_plain_function():
    row = AdvantageSpec.from_function(scaled)
    assert row.parameters == {"scale": inspect.Parameter.empty, "offset": 0.0}
    assert row.summary == "Scale the rewards"
    np.testing.assert_array_equal(row(np.array([1.0, 2.0]), scale=3.0), [3.0, 6.0])
    unknown = TransformSpec.from_function(lambda tokens, **_: tokens)
    assert (unknown.parameters, unknown.uses_sepa, unknown.summary) == (None, None, "")


def test_the_defaults_of_a_row_come_before_those_of_its_function():
    row = AdvantageSpec(scaled, {"scale": 2.0, "offset": 1.0})
    np.testing.assert_array_equal(Algorithm.from_names(row, "none").advantage(np.ones(1)), [3.0])
    algorithm = Algorithm.from_names(row, "none", scale=5.0)
    np.testing.assert_array_equal(algorithm.advantage(np.ones(1)), [6.0])


def test_a_row_can_ask_for_the_normalisation():
    row = AdvantageSpec(scaled, {"scale": 2.0}, batch_advantage_norm=True)
    assert Algorithm.from_names(row, "none").batch_advantage_norm
    assert not Algorithm.from_names(row, "none", batch_advantage_norm=False).batch_advantage_norm


@pytest.mark.parametrize(
    ("advantage", "params", "message"),
    [
        (scaled, {}, "`scaled` needs the parameter `scale`, which is not set"),
        (AdvantageSpec(scaled, {"scale": 1.0, "pace": 1.0}), {}, "`scaled` takes no .* `pace`"),
        (AdvantageSpec(scaled, {"scale": 1.0}), {"offset": 2.0}, "unknown parameter `offset`"),
        (AdvantageSpec(scaled, {"scale": 1.0}), {"scal": 2.0}, "did you mean `scale`"),
    ],
)
def test_parameters_that_do_not_fit(advantage, params, message):
    with pytest.raises(ValueError, match=message):
        Algorithm.from_names(advantage, "none", **params)
