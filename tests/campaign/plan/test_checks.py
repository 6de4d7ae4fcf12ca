import contextlib
from pathlib import Path

import pytest

from retrain_backends.config import RunConfig
from retrain_backends.errors import ConfigError
from retrain_campaign.plan.campaign import campaign_of, plan_runs
from retrain_campaign.plan.checks import check_disk_space, check_plan, free_bytes, idle_conditions

RULE = {"advantage_mode": "grpo", "transform_mode": "none"}
FAKE = {"backend": {"backend": "fake"}, "reward": {"type": "match"}}

ROWS = """
from retrain_core import TransformSpec, spread

def scaled(tokens, scale):
    return scale * spread(tokens.advantages, tokens.batch.token_offsets)

def make():
    return TransformSpec(scaled, {"scale": 1.0}, uses_sepa=False)
"""


def plan(*conditions, tables=None, seeds=(1, 2)):
    settings = {"seeds": list(seeds), "conditions": list(conditions)}
    given = {**FAKE, **(tables or {}), "campaign": settings}
    return plan_runs(campaign_of(RunConfig.model_validate(given), Path("c.toml")))


@pytest.fixture
def here(tmp_path):
    (tmp_path / "my_rules.py").write_text("def mine(rewards):\n    return rewards\n")
    (tmp_path / "my_rows.py").write_text(ROWS)
    (tmp_path / "my_broken.py").write_text("raise ValueError('half written')\n")
    with contextlib.chdir(tmp_path):
        yield tmp_path


def test_a_plan_without_mistakes(here):
    check_plan(plan(RULE, {**RULE, "advantage_mode": "my_rules.mine"}))


def test_a_condition_sets_the_parameters_of_its_row(here):
    row = {"advantage_mode": "grpo", "transform_mode": "my_rows.make"}
    check_plan(plan(RULE, {**row, "algorithm": {"transform_params": {"scale": 2.0}}}))
    wrong = plan(RULE, {**row, "algorithm": {"transform_params": {"scael": 2.0}}})
    with pytest.raises(ConfigError, match=r"^grpo.my_rows.make: .*`scael`.*did you mean `scale`"):
        check_plan(wrong)


def test_a_condition_whose_rule_cannot_be_built_is_not_called_idle(here):
    assert not list(idle_conditions(plan({**RULE, "transform_mode": "my_broken.rule"})))


@pytest.mark.parametrize(
    ("conditions", "tables", "lines"),
    [
        (
            [RULE, {**RULE, "advantage_mode": "no_such.rule"}],
            {},
            ["no_such.rule+none: algorithm.advantage_mode: `no_such.rule`: there is no module `no"],
        ),
        (
            [RULE, {**RULE, "name": "b", "advantage_mode": "my_broken.rule"}],
            {},
            ["b: algorithm.advantage_mode: `my_broken.rule`: importing `my_broken` failed: ValueE"],
        ),
        ([RULE], {"reward": {"type": "no_such.reward"}}, ["reward.type: `no_such.reward`: there"]),
        (
            [RULE],
            {"data": {"source": "no_such.data"}},
            ["data.source: `no_such.data`: there is no"],
        ),
        (
            [RULE, {**RULE, "name": "b", "inference": {"dtype": "fp8"}}],
            {},
            ["b: inference.dtype: `fp8`, but the backend `fake` samples itself; leave it out"],
        ),
        (
            [RULE],
            {"lora": {"alpha": 3.0}, "backpressure": {"enabled": True}},
            ["backpressure.enabled: `true` is not available", "lora.alpha: the backend `fake` ch"],
        ),
        (
            [RULE],
            {"backend": {"backend": "no_such.Backend"}},
            ["backend.backend: `no_such.Backend"],
        ),
    ],
)
def test_mistakes_are_reported_once_with_the_conditions_that_have_them(
    here, conditions, tables, lines
):
    with pytest.raises(ConfigError) as refused:
        check_plan(plan(*conditions, tables=tables))
    assert len(refused.value.problems) == len(lines)
    for problem, line in zip(refused.value.problems, lines, strict=True):
        assert problem.startswith(line)


def test_missing_disk_space_is_refused_before_anything_starts():
    tables = {"model": {"model": "builtin:tiny-arithmetic"}}
    runs = plan(RULE, tables=tables)
    check_disk_space(runs, Path("logs/c"), 10**9)
    line = r"logs/c: 1 kB are free, but the checkpoints of 2 runs need 32.4 MB; free some s"
    with pytest.raises(ConfigError, match=line):
        check_disk_space(runs, Path("logs/c"), 1000)


def test_free_bytes_of_a_directory_that_does_not_exist(tmp_path):
    assert free_bytes(tmp_path / "not/there/yet") > 0
