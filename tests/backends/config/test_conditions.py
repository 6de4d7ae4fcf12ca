import pytest

from retrain_backends.config import RunConfig, dump_config, label_of, load_config, with_condition
from retrain_backends.errors import ConfigError

RULE = {"advantage_mode": "grpo", "transform_mode": "none"}


def campaign(*conditions):
    return RunConfig.model_validate({"campaign": {"conditions": list(conditions)}})


def problems(tmp_path, text):
    path = tmp_path / "c.toml"
    rule = 'advantage_mode = "grpo"\ntransform_mode = "none"\n'
    path.write_text(text.replace("[[c]]", f"[[campaign.conditions]]\n{rule}"))
    with pytest.raises(ConfigError) as error:
        load_config(path)
    return [
        problem.removeprefix(f"{path}: [[campaign.conditions]] ")
        for problem in error.value.problems
    ]


def test_a_condition_sets_single_keys_of_any_table():
    config = campaign(
        {
            **RULE,
            "name": "fast",
            "training": {"lr": 1e-4},
            "backend": {"options": {"positions": 2}},
            "algorithm": {"params": {"beta": 0.2}},
        }
    )
    changed = with_condition(config, config.campaign.conditions[0])
    assert changed.training == config.training.model_copy(update={"lr": 1e-4})
    assert changed.backend.options == {"positions": 2}
    assert changed.algorithm.params == {"beta": 0.2}
    assert (changed.algorithm.advantage_mode, changed.algorithm.transform_mode) == ("grpo", "none")
    assert changed.sepa == config.sepa


@pytest.mark.parametrize(
    ("shared", "own", "merged"),
    [
        ({"a": 1, "b": 2}, {"b": 3}, {"a": 1, "b": 3}),
        ({"a": {"x": 1, "y": 2}}, {"a": {"y": 3}}, {"a": {"x": 1, "y": 3}}),
        ({"a": None}, {"b": 3}, {"a": None, "b": 3}),
        ({"a": 1}, '{"b": null}', {"a": 1, "b": None}),
        ({"a": {"x": 1}}, {"a": 2}, {"a": 2}),
        ({"a": 1}, {"a": {"x": 2}}, {"a": {"x": 2}}),
    ],
)
def test_tables_within_tables_are_changed_key_by_key(shared, own, merged):
    condition = {**RULE, "algorithm": {"params": own}, "environment": {"args": own}}
    tables = {"algorithm": {"params": shared}, "environment": {"args": shared}}
    config = RunConfig.model_validate({**tables, "campaign": {"conditions": [condition]}})
    changed = with_condition(config, config.campaign.conditions[0])
    assert (changed.algorithm.params, changed.environment.args) == (merged, merged)


@pytest.mark.parametrize(
    ("condition", "label"),
    [
        (RULE, "grpo+none"),
        ({**RULE, "name": "plain"}, "plain"),
        ({**RULE, "advantage_mode": "my.rule"}, "my.rule+none"),
    ],
)
def test_labels(condition, label):
    assert label_of(campaign(condition).campaign.conditions[0]) == label


def test_conditions_survive_toml(tmp_path):
    config = campaign(
        {**RULE, "training": {"lr": 1e-4}, "algorithm": '{"params": {"x": null}}'},
        {**RULE, "name": "b", "eval": {"pass_k": [1]}},
    )
    path = tmp_path / "c.toml"
    path.write_text(dump_config(config))
    assert load_config(path) == config


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (
            "[[c]]\ntraining.lr = 'fast'\ntraining.lrr = 1",
            [
                'number 1: [training] lr is `"fast"`; it must be a number >= 0',
                "number 1: [training] lrr is an unknown key; did you mean lr?",
            ],
        ),
        (
            "[[c]]\ntrainig.x = 1",
            ["number 1: [trainig] is an unknown table; did you mean [training]?"],
        ),
        ("[[c]]\nlr = 1", ["number 1, lr is an unknown key; did you mean lr in [training]?"]),
        (
            "[[c]]\nbackpressure.min_batch_size = 65",
            ["number 1: [backpressure] min_batch_size (65) must not be above max_batch_size (64)"],
        ),
        (
            "[[c]]\ntraining.seed = 1",
            [
                "number 1: [training] seed cannot be set here: every condition runs under all "
                "seeds of [campaign]"
            ],
        ),
        (
            "[[c]]\nlogging = { condition = 'x', wandb_run_name = 'y', wandb_group = 'z' }",
            [
                "number 1: [logging] condition cannot be set here: write name without the table",
                "number 1: [logging] wandb_run_name cannot be set here: a run is named by its "
                "condition and its seed",
                "number 1: [logging] wandb_group cannot be set here: the runs of a condition are "
                "a group",
            ],
        ),
        (
            "[[c]]\nresume.from = 'there'",
            ["number 1: [resume] cannot be set here: all runs of a campaign share it"],
        ),
        (
            "[[c]]\nsqueeze.compress_to = 1",
            ["number 1: [squeeze] cannot be set here: all runs of a campaign share it"],
        ),
        (
            "[[c]]\n[[c]]",
            ["2 conditions have the label `grpo+none`; set name to tell them apart"],
        ),
        (
            "[[c]]\nname = 'a/b'",
            ['number 1, name is `"a/b"`; it must be letters, digits and . _ + -'],
        ),
    ],
)
def test_mistakes_in_conditions_are_reported_before_anything_starts(tmp_path, text, lines):
    assert problems(tmp_path, text) == lines


def test_all_mistakes_of_a_file_are_reported_at_once(tmp_path):
    found = problems(tmp_path, "[[c]]\ntraining.lr = -1\n[[c]]\nsepa.steps = 'x'")
    assert len(found) == 3
