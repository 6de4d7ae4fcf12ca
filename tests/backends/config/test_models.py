import os
import subprocess
import sys

import pydantic
import pytest

from retrain_backends.config import (
    BackpressureConfig,
    CampaignConfig,
    ConditionConfig,
    ResumeConfig,
    RunConfig,
    SqueezeConfig,
    TrainingConfig,
    with_drawn_seed,
)
from retrain_core import TRANSFORM_MODES

# The table of configuration keys, as it was agreed.
DEFAULTS = {
    "backend": {
        "backend": "local",
        "devices": "gpu:0",
        "adapter_path": "",
        "max_concurrent": 4,
        "throttle_dir": "",
        "options": {},
    },
    "model": {
        "model": "Qwen/Qwen3-4B-Instruct-2507",
        "base_url": "",
        "lora_rank": 32,
        "chat_template_kwargs": {},
    },
    "algorithm": {
        "algorithm_mode": "",
        "advantage_mode": "maxrl",
        "transform_mode": "gtpo_sepa",
        "uncertainty_kind": "surprisal",
        "importance_cap": 0.0,
        "params": {},
        "advantage_params": {},
        "transform_params": {},
    },
    "training": {
        "seed": -1,
        "max_steps": 500,
        "batch_size": 8,
        "group_size": 16,
        "max_tokens": 2048,
        "temperature": 0.7,
        "lr": 4e-5,
        "weight_decay": 0.0,
        "max_examples": 0,
        "save_every": 20,
        "keep_last": 2,
        "keep_best": True,
    },
    "optimizer": {"beta1": 0.9, "beta2": 0.95, "eps": 1e-8},
    "lora": {"alpha": 0, "dropout": 0.0},
    "gtpo": {"beta": 0.1},
    "hicra": {"alpha": 0.2},
    "sepa": {"steps": 500, "schedule": "linear", "delay_steps": 50, "correct_rate_gate": 0.1},
    "planning": {
        "detector": "regex",
        "model": "all-MiniLM-L6-v2",
        "threshold": 0.02,
        "device": "cpu",
    },
    "data": {
        "source": "math",
        "path": "",
        "split": "train",
        "question_field": "",
        "answer_field": "",
        "prompt_template": "{question}\n\nReason step by step, and put your final answer in "
        "\\boxed{}.",
        "shuffle": True,
    },
    "environment": {
        "provider": "",
        "id": "",
        "args": {},
        "max_turns": -1,
        "auto_install": False,
    },
    "inference": {
        "engine": "pytorch",
        "url": (),
        "timeout_s": 1800.0,
        "max_requests": 64,
        "max_steps_off_policy": 0,
        "adapter_dir": "",
        "logprobs": "auto",
        "overlap": "off",
        "determinism": "off",
        "prompts": "ids",
        "inexact_prompts": "refuse",
        "attention_kernel": "default",
        "dtype": "auto",
        "kv_cache_dtype": "auto",
        "prefix_caching": True,
    },
    "reward": {
        "type": "match",
        "judge_model": "",
        "judge_url": "",
        "custom_module": "",
        "custom_function": "score",
        "timeout_s": 10.0,
        "max_failure_rate": 0.2,
        "workers": 0,
        "memory_mb": 1024,
    },
    "eval": {
        "every": 0,
        "source": "",
        "path": "",
        "split": "",
        "max_examples": 100,
        "samples": 1,
        "temperature": -1.0,
        "pass_k": (1,),
    },
    "health": {
        "probe": "warn",
        "max_nonfinite_steps": 1,
        "warn_logprob_diff": 0.05,
        "stop_logprob_diff": 1.0,
        "warn_ratio_p99": 2.0,
        "stop_ratio_p99": 0.0,
        "warn_kl_k3": 0.0,
        "stop_kl_k3": 0.0,
        "warn_entropy": 0.001,
        "stop_entropy": 0.0,
        "warn_truncated": 0.5,
        "stop_truncated": 0.0,
        "warn_repeated": 0.2,
        "stop_repeated": 0.0,
    },
    "backpressure": {
        "enabled": False,
        "warmup_steps": 10,
        "ema_decay": 0.9,
        "throttle_margin": 0.85,
        "increase_margin": 0.5,
        "min_batch_size": 1,
        "max_batch_size": 64,
        "peak_gflops": 0.0,
        "peak_bw_gb_s": 0.0,
    },
    "resume": {"from": ""},
    "logging": {
        "log_dir": "logs/train",
        "condition": "",
        "trackers": (),
        "wandb_project": "",
        "wandb_run_name": "",
        "wandb_entity": "",
        "wandb_group": "",
        "wandb_tags": "",
        "learning_curve": True,
        "strategic_grams": "",
    },
    "squeeze": None,
    "campaign": None,
}


def test_defaults_are_those_of_the_table():
    assert RunConfig().model_dump(by_alias=True) == DEFAULTS


def test_defaults_of_the_optional_tables():
    assert SqueezeConfig().model_dump() == {
        "min_variance_retention": 0.95,
        "adapter_path": "",
        "source_rank": 0,
        "target_ranks": (),
        "output_path": "",
        "compress_to": 0,
        "per_module": False,
        "device": "cpu",
    }
    assert CampaignConfig().model_dump() == {
        "seeds": (42, 101, 202, 303, 404, 505, 606, 707),
        "max_steps": 500,
        "parallel": False,
        "max_workers": 0,
        "stagger_seconds": 0.0,
        "retries": 1,
        "executor": "process",
        "executor_options": {},
        "directory": "",
        "conditions": (),
    }


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("training", "temperature", -0.1),
        ("training", "group_size", 0),
        ("training", "batch_size", 1.5),
        ("training", "batch_size", True),
        ("training", "lr", float("nan")),
        ("training", "lr", "1e-3"),
        ("training", "seed", 2**63),
        ("model", "model", ""),
        ("model", "base_url", "example.org"),
        ("backend", "devices", "cuda:0"),
        ("backend", "devices", ""),
        ("backend", "options", '{"a": NaN}'),
        ("backend", "options", "[1]"),
        ("algorithm", "advantage_mode", "maxlr"),
        ("algorithm", "transform_mode", "a plugin.name"),
        ("algorithm", "uncertainty_kind", "my.plugin"),
        ("algorithm", "params", {"a": float("inf")}),
        ("optimizer", "beta1", 1.0),
        ("optimizer", "eps", 0.0),
        ("data", "prompt_template", "no placeholder"),
        ("data", "prompt_template", "{question} \boxed{}"),
        ("eval", "source", "mathh"),
        ("eval", "samples", 0),
        ("eval", "temperature", -0.5),
        ("eval", "temperature", -2),
        ("eval", "pass_k", []),
        ("eval", "pass_k", [1, 1]),
        ("reward", "timeout_s", 0.0),
        ("reward", "max_failure_rate", 1.1),
        ("reward", "judge_url", "localhost:8000"),
        ("reward", "memory_mb", 0),
        ("campaign", "seeds", []),
        ("campaign", "seeds", [1, 1]),
        ("campaign", "seeds", [-1]),
        ("campaign", "conditions", [{"advantage_mode": "grpo"}]),
        ("squeeze", "min_variance_retention", 0.0),
        ("squeeze", "target_ranks", [0]),
        ("sepa", "schedule", "cosine"),
        ("health", "probe", "maybe"),
        ("health", "max_nonfinite_steps", 0),
        ("health", "warn_truncated", 1.1),
        ("algorithm", "importance_cap", -1.0),
        ("logging", "strategic_grams", "[let me"),
        ("logging", "strategic_grams", "[1]"),
        ("logging", "strategic_grams", [1]),
        ("logging", "trackers", ["wanbd"]),
        ("logging", "trackers", ["my.Tracker", "my.Tracker"]),
        ("logging", "trackers", "my.Tracker"),
    ],
)
def test_values_that_are_refused(table, key, value):
    with pytest.raises(pydantic.ValidationError):
        RunConfig.model_validate({table: {key: value}})


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("training", "temperature", 0.0),
        ("training", "lr", 1),
        ("backend", "devices", "cpu"),
        ("backend", "devices", "gpu:0, gpu:1"),
        ("backend", "backend", "my_lab.backends:Cluster"),
        ("model", "base_url", "http://localhost:8000"),
        ("algorithm", "advantage_mode", "my_rules.median"),
        ("algorithm", "algorithm_mode", "my_rules.whole"),
        ("data", "source", "my_data.Puzzles"),
        ("data", "prompt_template", "Q: {question}\n\\boxed{}"),
        ("reward", "type", "my_rewards:Lenient"),
        ("planning", "detector", "my_rules.Detector"),
        ("sepa", "correct_rate_gate", -1.0),
        ("eval", "source", ""),
        ("eval", "source", "my_data.Puzzles"),
        ("logging", "strategic_grams", '["let me", "now"]'),
    ],
)
def test_values_that_are_accepted(table, key, value):
    config = RunConfig.model_validate({table: {key: value}})
    assert getattr(getattr(config, table), key) == value


def test_phrases_may_be_a_list():
    config = RunConfig.model_validate({"logging": {"strategic_grams": ["let me", "café, now"]}})
    assert config.logging.strategic_grams == '["let me", "café, now"]'


def test_a_plugin_of_an_installed_package_has_a_short_name(tmp_path):
    package = tmp_path / "my_rewards-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: my-rewards\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[retrain.plugins]\nreward.lenient = my:Lenient\n")
    program = """
from retrain_backends.config import load_config
from retrain_backends.errors import ConfigError
print(load_config(None, {"reward.type": "lenient"}).reward.type)
try:
    load_config(None, {"data.source": "lenient"})
except ConfigError as error:
    print(len(error.problems))
"""
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout == "lenient\n1\n"


def test_environment_arguments_as_table_or_json():
    as_json = RunConfig.model_validate({"environment": {"args": '{"n": 3, "x": [null]}'}})
    assert as_json.environment.args == {"n": 3, "x": [None]}


def test_defaults_of_parameters_are_those_of_the_modes():
    config = RunConfig()
    defaults = {"gtpo_beta": config.gtpo.beta, "hicra_alpha": config.hicra.alpha}
    assert TRANSFORM_MODES["gtpo_hicra"].parameters == defaults


def test_optional_tables_show_that_they_were_written():
    config = RunConfig.model_validate({"squeeze": {}, "campaign": {}})
    assert (config.squeeze, config.campaign) == (SqueezeConfig(), CampaignConfig())


def test_conditions_become_a_tuple():
    condition = {"advantage_mode": "grpo", "transform_mode": "none"}
    config = RunConfig.model_validate({"campaign": {"conditions": [condition]}})
    assert config.campaign is not None
    assert config.campaign.conditions == (ConditionConfig(**condition),)


def test_sections_are_frozen():
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        RunConfig().training.lr = 1.0


def test_batch_size_limits_must_be_ordered():
    with pytest.raises(pydantic.ValidationError, match="must not be above"):
        BackpressureConfig(min_batch_size=9, max_batch_size=8)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"samples": 4, "temperature": 0}, "samples = 4 needs a temperature above 0"),
        ({"samples": 4, "temperature": 1.0, "pass_k": [1, 8]}, "pass_k = 8 needs at least as many"),
    ],
)
def test_an_evaluation_needs_samples_that_differ_and_enough_of_them(table, message):
    with pytest.raises(pydantic.ValidationError, match=message):
        RunConfig.model_validate({"eval": table})


def test_wandb_needs_a_project():
    with pytest.raises(pydantic.ValidationError, match="needs a project: set wandb_project"):
        RunConfig.model_validate({"logging": {"trackers": ["wandb"]}})


def test_resume_is_from_in_toml_and_from_underscore_in_python():
    assert RunConfig.model_validate({"resume": {"from": "x"}}).resume == ResumeConfig(from_="x")


def test_a_seed_is_drawn_once():
    drawn = with_drawn_seed(RunConfig())
    assert 0 <= drawn.training.seed < 2**31
    assert with_drawn_seed(drawn) == drawn
    assert with_drawn_seed(RunConfig()) != drawn


def test_seed_zero_is_a_seed():
    config = RunConfig(training=TrainingConfig(seed=0))
    assert with_drawn_seed(config) is config
