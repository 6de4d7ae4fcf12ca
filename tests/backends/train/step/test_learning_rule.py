from dataclasses import replace

import numpy as np
import pytest

from retrain_backends.config import load_config
from retrain_backends.errors import ConfigError, RunError
from retrain_backends.train.step.learning_rule import apply_rule, build_rule
from retrain_core import Algorithm, CompletionBatch, LossOptions


def reward_at_every_token(batch, sepa_lambda, scale=1.0):
    return scale * np.repeat(batch.rewards, batch.lengths)


def too_short(batch, sepa_lambda):
    return np.zeros(1)


def broken(batch, sepa_lambda):
    raise KeyError("beta")


def ranks(rewards_G):
    return np.argsort(np.argsort(rewards_G)).astype(float)


@pytest.fixture
def batch() -> CompletionBatch:
    return CompletionBatch(
        rewards=[1.0, 0.0],
        group_offsets=[0, 2],
        token_offsets=[0, 2, 5],
        logprobs=[-0.1, -0.9, -0.3, -0.5, -0.7],
    )


def rule_from(config):
    return build_rule(config.algorithm, config.gtpo, config.hicra)


def rule_of(**algorithm):
    return rule_from(load_config(None, {f"algorithm.{k}": v for k, v in algorithm.items()}))


def test_named_parts_get_the_parameters_of_their_tables(batch):
    config = load_config(
        None,
        {
            "algorithm.advantage_mode": "grpo",
            "algorithm.transform_mode": "gtpo",
            "gtpo.beta": 0.7,
            "algorithm.params": {"advantage_cap": 0.4, "clip_eps": 0.2},
        },
    )
    expected = Algorithm.from_names("grpo", "gtpo", gtpo_beta=0.7, advantage_cap=0.4)(batch)
    np.testing.assert_array_equal(rule_from(config)(batch).values, expected.values)


def test_plugin_advantage(batch):
    rule = rule_of(advantage_mode=f"{__name__}:ranks", transform_mode="none")
    assert rule(batch).values.tolist() == [1, 1, 0, 0, 0]


def test_plugin_rule(batch):
    rule = rule_of(
        algorithm_mode=f"{__name__}:reward_at_every_token", params={"scale": 3.0, "clip_eps": 0.2}
    )
    advantages = rule(batch, 0.5)
    assert advantages.values.tolist() == [3, 3, 0, 0, 0]
    assert advantages.episode.tolist() == [3, 0]
    assert advantages.entropy_stats.exec_count == 5


@pytest.mark.parametrize(
    ("name", "message"), [("too_short", "it must return 5"), ("broken", "KeyError: 'beta'")]
)
def test_failing_plugin_rule_ends_the_run_with_a_line(batch, name, message):
    with pytest.raises(RunError, match=message):
        apply_rule(rule_of(algorithm_mode=f"{__name__}:{name}"), batch, 0.0)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"clip_eps": -0.1}, "clip_eps must be a number >= 0"),
        ({"clip_eps": True, "clip_eps_high": "x"}, "clip_eps_high must be a number"),
        ({"clip_eps_high": 0.3}, "clip_eps_high needs clip_eps"),
        ({"advantage_cup": 5.0}, "did you mean `advantage_cap`"),
        ({"advantage_cap": -1.0}, "advantage_cap must be > 0"),
    ],
)
def test_wrong_parameters_are_configuration_errors(params, message):
    with pytest.raises(ConfigError, match=message):
        rule_of(params=params)


@pytest.mark.parametrize(
    ("algorithm", "options"),
    [
        ({}, LossOptions()),
        ({"importance_cap": 2.0}, LossOptions(importance_cap=2.0)),
        ({"importance_cap": 2.0, "params": {"clip_eps": 0}}, LossOptions(importance_cap=2.0)),
        ({"importance_cap": 0.0, "params": {"clip_eps": 0.2}}, LossOptions(clip_eps=0.2)),
    ],
)
def test_bounds_of_the_loss(algorithm, options):
    config = load_config(None, {f"algorithm.{k}": v for k, v in algorithm.items()})
    rule_from(config)
    assert config.algorithm.loss_options() == options


def test_two_bounds_of_one_ratio_are_refused():
    message = r"algorithm.importance_cap: `2.0` and clip_eps .* set one of them to 0"
    with pytest.raises(ConfigError, match=message):
        rule_of(importance_cap=2.0, params={"clip_eps": 0.2})


def test_condition_names_the_rule():
    config = load_config(None, {"algorithm.advantage_mode": "grpo"})
    assert config.condition == "grpo+gtpo_sepa"
    plugin = load_config(None, {"algorithm.algorithm_mode": "mine.rule"})
    assert plugin.condition == "mine.rule"
    named = load_config(None, {"algorithm.algorithm_mode": "mine.rule", "logging.condition": "b"})
    assert named.condition == "b"


def negative(batch):
    return replace(batch, rewards=np.array([1.0, -0.5]))


def test_maxrl_warns_once_of_a_negative_reward(batch, caplog):
    rule = rule_of(advantage_mode="maxrl")
    rule(batch)
    assert not caplog.records
    for _ in range(2):
        rule(negative(batch))
    [record] = caplog.records
    assert "`maxrl` is defined for rewards >= 0, but a reward is -0.5" in record.getMessage()
    assert "add a constant to all rewards, or use `grpo`" in record.getMessage()


def test_other_rules_take_negative_rewards(batch, caplog):
    rule_of(advantage_mode="grpo")(negative(batch))
    assert not caplog.records
