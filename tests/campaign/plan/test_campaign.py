from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrain_backends.config import RunConfig, dump_config, load_config
from retrain_backends.errors import ConfigError
from retrain_campaign.plan.campaign import ABLATION, campaign_of, load_campaign, plan_runs

RULE = {"advantage_mode": "grpo", "transform_mode": "none"}


def campaign(conditions=(), tables=None, **settings):
    given = {**(tables or {}), "campaign": {"conditions": list(conditions), **settings}}
    return campaign_of(RunConfig.model_validate(given), Path("c.toml"))


def test_without_conditions_it_is_the_ablation():
    plan = plan_runs(campaign(seeds=[1, 2]))
    labels = [f"{advantage}+{transform}" for advantage, transform in ABLATION]
    assert [run.label for run in plan] == labels * 2
    assert [run.seed for run in plan] == [1] * 5 + [2] * 5
    assert plan[0].name == "grpo+none_s1"


def test_a_run_is_the_base_with_its_condition_its_seed_and_a_directory_of_its_own():
    made = campaign(
        [{**RULE, "training": {"lr": 1e-4}}],
        {"training": {"lr": 1.0, "batch_size": 3}, "backend": {"adapter_path": "mine"}},
        seeds=[7],
        max_steps=9,
    )
    [run] = plan_runs(made, Path("logs/campaign_1"))
    training = run.config.training
    assert (training.lr, training.batch_size, training.seed, training.max_steps) == (1e-4, 3, 7, 9)
    assert run.config.logging.log_dir == "logs/campaign_1/runs/grpo+none_s7"
    assert (run.config.backend.adapter_path, run.config.campaign) == ("", None)


@pytest.mark.parametrize(
    ("tables", "settings", "steps"),
    [
        ({}, {}, 500),
        ({"training": {"max_steps": 5}}, {}, 5),
        ({"training": {"max_steps": 5}}, {"max_steps": 6}, 6),
    ],
)
def test_max_steps_of_the_campaign_precede_those_of_training(tables, settings, steps):
    made = campaign([RULE], tables, **settings)
    assert {run.config.training.max_steps for run in plan_runs(made)} == {steps}
    assert made.max_steps == steps


def test_a_condition_may_have_steps_of_its_own():
    made = campaign([RULE, {**RULE, "name": "long", "training": {"max_steps": 9}}], max_steps=6)
    assert [run.config.training.max_steps for run in plan_runs(made)][:2] == [6, 9]


def test_how_runs_are_executed_changes_no_byte_of_them():
    one = plan_runs(campaign())
    ways = {"parallel": True, "max_workers": 2, "stagger_seconds": 1.0, "executor": "ray"}
    other = plan_runs(campaign(**ways))
    assert [dump_config(run.config) for run in one] == [dump_config(run.config) for run in other]


def test_a_run_has_the_label_of_its_condition():
    runs = plan_runs(campaign([RULE, {**RULE, "name": "slow"}], seeds=[1]))
    assert [run.config.logging.condition for run in runs] == ["grpo+none", "slow"]


@pytest.mark.parametrize("key", ["condition", "wandb_run_name", "wandb_group"])
def test_a_file_does_not_name_its_runs(key):
    line = rf"c.toml: \[logging\] {key} is `mine`, but .* grouped by condition; leave it out"
    with pytest.raises(ConfigError, match=line):
        campaign([RULE], {"logging": {key: "mine"}})


def test_wandb_names_contain_the_condition_and_the_seed():
    tables = {"logging": {"wandb_project": "p", "wandb_tags": "mine"}}
    logging = plan_runs(campaign([RULE], tables, seeds=[3]))[0].config.logging
    assert (logging.wandb_run_name, logging.wandb_group) == ("grpo+none_s3", "grpo+none")
    assert logging.wandb_tags == "grpo+none,seed3,mine"


@pytest.mark.parametrize(
    ("given", "expected"), [("", "logs/c/tinker_throttle"), ("shared", "shared")]
)
def test_workers_of_tinker_share_a_throttle(given, expected):
    tables = {"backend": {"backend": "tinker", "throttle_dir": given}}
    runs = plan_runs(campaign(tables=tables), Path("logs/c"))
    assert {run.config.backend.throttle_dir for run in runs} == {expected}


def test_plugins_by_their_dotted_names():
    condition = {"advantage_mode": "rules:mine", "transform_mode": "none"}
    [run] = plan_runs(campaign([condition], seeds=[1]))
    assert (run.label, run.name) == ("rules:mine+none", "rules.mine+none_s1")


@pytest.mark.parametrize(
    ("conditions", "tables", "line"),
    [
        (
            [{**RULE, "name": "A"}, {**RULE, "name": "a"}],
            {},
            r"c.toml: \[\[campaign.conditions\]\] `A` and another condition would share a dir",
        ),
        ([RULE], {"algorithm": {"algorithm_mode": "my.rule"}}, "conditions would not differ"),
    ],
)
def test_conditions_that_do_not_differ(conditions, tables, line):
    with pytest.raises(ConfigError, match=line):
        campaign(conditions, tables)


rates = st.floats(0, 1)
paths = st.text(st.characters(exclude_characters="\0"))
overrides = st.fixed_dictionaries(
    {},
    optional={
        "training": st.fixed_dictionaries({}, optional={"lr": rates, "batch_size": st.just(3)}),
        "sepa": st.fixed_dictionaries({}, optional={"steps": st.integers(1, 9)}),
        "algorithm": st.fixed_dictionaries(
            {}, optional={"params": st.dictionaries(st.text(), st.none() | rates, max_size=2)}
        ),
        "data": st.fixed_dictionaries({}, optional={"path": paths}),
    },
)


@given(st.lists(overrides, min_size=1, max_size=3), st.lists(st.integers(0, 99), unique=True))
def test_runs_and_campaigns_survive_their_files(tmp_path_factory, tables, seeds):
    conditions = [{**RULE, "name": f"c{i}", **table} for i, table in enumerate(tables)]
    made = campaign(conditions, seeds=seeds or [1])
    file = tmp_path_factory.getbasetemp() / "c.toml"
    for run in plan_runs(made):
        file.write_bytes(dump_config(run.config).encode())
        assert load_config(file) == run.config
    file.write_bytes(dump_config(made.config).encode())
    again = load_campaign(file)
    assert plan_runs(again) == plan_runs(made)
    assert dump_config(again.config) == dump_config(made.config)


@pytest.mark.parametrize(("length", "allowed"), [(197, True), (198, False)])
def test_the_name_of_a_run_fits_into_a_file_system(length, allowed):
    conditions = [{**RULE, "name": "a" * length}]
    if allowed:
        assert len(plan_runs(campaign(conditions, seeds=[1]))[0].name) == 200
        return
    line = r"`aaaaaaaaaaaaaaaaaaaa…`: the name of its run would have 201 bytes; at most 200 are"
    with pytest.raises(ConfigError, match=line):
        campaign(conditions, seeds=[1])


def test_an_analysis_of_a_given_adapter_is_no_campaign():
    tables = {"campaign": {}, "squeeze": {"adapter_path": "somewhere"}}
    with pytest.raises(ConfigError, match="adapter_path requests an analysis") as caught:
        campaign_of(RunConfig.model_validate(tables), Path("c.toml"))
    assert len(caught.value.problems) == 1
