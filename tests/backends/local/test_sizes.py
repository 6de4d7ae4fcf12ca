import shutil

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen3Config

from retrain_backends.errors import ConfigError, RunError
from retrain_backends.local.backend import LocalBackend
from retrain_backends.local.sampler import PytorchSampler
from retrain_backends.local.sizes import Context, context_of, model_sizes
from retrain_backends.tokenizer import resolve_model


def test_sizes_are_those_of_the_loaded_model(model_path, policy):
    sizes = model_sizes(model_path, "m")
    parts = policy(model_path)
    assert sizes.parameters == sum(p.numel() for p in parts.base.model.parameters())
    assert sizes.adapter * parts.adapter.rank == parts.adapter.weights.numel()
    assert (sizes.width, sizes.context, sizes.vocabulary) == (32, Context(128), 61)


def test_the_cache_of_a_token_is_that_of_the_loaded_model():
    path = resolve_model("builtin:tiny-arithmetic")
    sizes, model = model_sizes(path, "m"), AutoModelForCausalLM.from_pretrained(path)
    cache = model(torch.ones(1, 7, dtype=torch.long), use_cache=True).past_key_values
    numbers = sum(layer.keys.numel() + layer.values.numel() for layer in cache.layers)
    assert sizes.cached * 7 == numbers


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, Context(128)),
        (
            {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128},
            Context(512),
        ),
        ({"rope_type": "linear", "factor": 2.0}, Context(128)),
    ],
)
def test_the_context_with_scaled_positions(settings, expected):
    rope = {"rope_theta": 10_000.0, "rope_type": "default", **settings}
    config = Qwen3Config(max_position_embeddings=128, rope_parameters=rope)
    assert context_of(config) == expected


@pytest.mark.parametrize(
    ("section", "values", "problem"),
    [
        ("model", {"lora_rank": 33}, "model.lora_rank: `33` is above the width of the layers of "),
        ("model", {"lora_rank": 2**63 - 1}, "model.lora_rank: `9223372036854775807` is above"),
        (
            "training",
            {"max_tokens": 129},
            "training.max_tokens: `129` after a prompt of 0 tokens is beyond the context of ",
        ),
        (
            "training",
            {"group_size": 10**12},
            "training.group_size, training.max_tokens: the run needs at least 1.3 PB on cpu, which",
        ),
    ],
)
@pytest.mark.parametrize("devices", ["cpu", "cpu,cpu"])
def test_sizes_that_do_not_fit_are_refused(section, values, problem, devices, local_config):
    config = local_config(**{section: values}, backend={"devices": devices})
    with pytest.raises(ConfigError) as caught:
        LocalBackend.from_config(config)
    assert str(caught.value).startswith(problem)
    assert "\n" not in str(caught.value)


def test_sizes_are_checked_before_the_weights_are_read(local_config, qwen3, tmp_path):
    shutil.copy(f"{qwen3}/config.json", tmp_path)
    config = local_config(model={"model": str(tmp_path), "lora_rank": 64})
    with pytest.raises(ConfigError, match=r"model\.lora_rank: `64` is above"):
        LocalBackend.from_config(config)


@pytest.mark.parametrize(
    ("prompt", "problem"),
    [
        (
            np.arange(119) % 61,
            "step 0: prompt 0 has 119 tokens, which with training.max_tokens = 10 is",
        ),
        (np.array([3, 61]), "step 0: prompt 0 has the token 61, and the vocabulary of "),
    ],
)
def test_a_prompt_that_does_not_fit_is_refused(prompt, problem, qwen3, policy, sampling):
    parts = policy(qwen3)
    sampler = PytorchSampler(parts.base, parts.adapter, parts.adapter, 10)
    with pytest.raises(RunError) as caught:
        sampling.sample(sampler, [prompt])
    assert str(caught.value).startswith(problem)


def test_the_longest_text_that_fits_is_sampled(qwen3, policy, sampling):
    parts = policy(qwen3)
    sampler = PytorchSampler(parts.base, parts.adapter, parts.adapter, 10)
    [group] = sampling.sample(sampler, [np.arange(118) % 61])
    assert len(group) == 3


def test_texts_that_longrope_rotates_otherwise_are_refused(local_config, tiny_model):
    path = tiny_model("Phi 3, long context")
    LocalBackend.from_config(local_config(model={"model": path}, training={"max_tokens": 32}))
    with pytest.raises(ConfigError, match=r"32 tokens \(original_max_position_embeddings"):
        LocalBackend.from_config(local_config(model={"model": path}, training={"max_tokens": 33}))
