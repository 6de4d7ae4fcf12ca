"""A tiny random model on disk, and the local backend's parts built on it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import (
    OPTConfig,
    OPTForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from retrain_backends.config import RunConfig
from retrain_backends.local.adapter import Adapter
from retrain_backends.local.base_model import BaseModel
from retrain_backends.local.trainer import LocalTrainer, OptimizerSettings
from retrain_backends.randomness import Purpose, stream
from retrain_backends.testing import GroupSampling
from retrain_backends.types import SamplingParams, TrainBatch
from retrain_core import LossOptions
from retrain_test_support.model_families import FAMILIES, write_tiny_model

SIZES = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,  # large enough for the tokens to differ in probability
}
CPU = torch.device("cpu")


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def qwen3(tmp_path_factory):
    """Grouped-query attention, query and key norms, tied embeddings."""
    directory = tmp_path_factory.mktemp("qwen3")
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=16, tie_word_embeddings=True))
    model.save_pretrained(directory)
    return str(directory)


@pytest.fixture(scope="session")
def qwen2(tmp_path_factory):
    """Biases on query, key and value, a head of its own."""
    directory = tmp_path_factory.mktemp("qwen2")
    torch.manual_seed(1)
    model = Qwen2ForCausalLM(Qwen2Config(**SIZES, tie_word_embeddings=False))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    model.save_pretrained(directory)
    return str(directory)


@pytest.fixture(scope="session")
def opt(tmp_path_factory):
    """Dropout in its own blocks."""
    directory = tmp_path_factory.mktemp("opt")
    torch.manual_seed(2)
    config = OPTConfig(
        vocab_size=61,
        hidden_size=32,
        word_embed_proj_dim=32,
        ffn_dim=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        init_std=0.2,
        dropout=0.1,
        layerdrop=0.1,
    )
    OPTForCausalLM(config).save_pretrained(directory)
    return str(directory)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """`tiny_model(family)`: the directory of a tiny random model of a family."""
    directory = tmp_path_factory.mktemp("families")

    def path(name):
        own = directory / "".join(filter(str.isalnum, name))
        if not own.exists():
            write_tiny_model(FAMILIES[name], own)
        return str(own)

    return path


@pytest.fixture(scope="session")
def gpt2(tiny_model):
    """Transposed weights, biases, learned positions."""
    return tiny_model("GPT-2")


@pytest.fixture(params=["qwen3", "qwen2", "gpt2"])
def model_path(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def policy():
    """`policy(path)`: a base model with an adapter whose B is not zero, so that LoRA matters."""

    def build(path, *, active=True, dropout=0.0, seed=3, model=BaseModel):
        base = model(path, path, CPU, torch.float32)
        adapter = Adapter(
            base.projections, rank=4, alpha=8.0, dropout=dropout, seed=seed, device=CPU
        )
        if active:
            noise = stream(seed, Purpose.PROBE).normal(0, 0.1, adapter.weights.shape)
            adapter.weights += torch.from_numpy(noise.astype(np.float32))
        base.attach(adapter)
        return SimpleNamespace(base=base, adapter=adapter)

    return build


@pytest.fixture
def trainer():
    """`trainer(policy, **settings)`: a trainer on the policy."""

    def build(parts, **changes):
        settings = {
            "lr": 1e-2,
            "weight_decay": 0.0,
            "beta1": 0.9,
            "beta2": 0.95,
            "eps": 1e-8,
            "bounds": LossOptions(),
            "microbatch_tokens": 4096,
            "gradient_checkpointing": False,
        }
        return LocalTrainer(parts.base, parts.adapter, OptimizerSettings(**(settings | changes)))

    return build


@pytest.fixture
def sampling():
    return GroupSampling(5, 3, 10, SamplingParams(temperature=0.8, stop_token_ids=(0, 1)))


@pytest.fixture
def prompts():
    """Prompts of different lengths."""
    rng = np.random.default_rng(0)
    return [rng.integers(2, 61, length) for length in (5, 1, 9)]


@pytest.fixture
def random_batch(prompts):
    """Nine completions of 0 to 8 tokens, with an environment's tokens among them."""
    rng = np.random.default_rng(1)
    lengths = np.array([3, 0, 8, 1, 2, 5, 4, 1, 7])
    total = int(lengths.sum())
    return TrainBatch(
        prompts=prompts,
        group_offsets_g=np.array([0, 3, 5, 9]),
        token_offsets_n=np.concatenate([[0], np.cumsum(lengths)]),
        tokens_t=rng.integers(2, 61, total),
        logprobs_t=rng.normal(-3, 0.5, total),
        advantages_t=rng.normal(size=total),
        trained_t=rng.random(total) < 0.8,
        temperature=0.7,
        step=0,
        seed=0,
    )


@pytest.fixture
def local_config(qwen3):
    """`local_config(**sections)`: settings of the local backend on the tiny model."""

    def build(**sections):
        defaults = {
            "backend": {"devices": "cpu"},
            "model": {"model": qwen3, "lora_rank": 4},
            "training": {"lr": 0.02, "seed": 1, "max_tokens": 16},
        }
        return RunConfig.model_validate(
            {name: defaults.get(name, {}) | sections.get(name, {}) for name in defaults | sections}
        ).policy()

    return build
