"""The same step on the local backend, in the reference and on a service comes to the same."""

import numpy as np
import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from retrain_backends.config import load_config
from retrain_backends.local.backend import LocalBackend
from retrain_backends.tinker.backend import TinkerBackend
from retrain_core import policy_loss
from retrain_test_support.tinker.policy import BigramPolicy
from retrain_test_support.tinker.server import TinkerServer

TOKENS = 32


@pytest.fixture(scope="module")
def bigram_model(tmp_path_factory):
    """A transformer whose only block adds nothing, so that the last token decides the next one."""
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=TOKENS,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        tie_word_embeddings=False,
        dtype="float32",
    )
    model = Qwen3ForCausalLM(config)
    with torch.no_grad():
        for silent in (model.model.layers[0].self_attn.o_proj, model.model.layers[0].mlp.down_proj):
            silent.weight.zero_()
        torch.nn.init.normal_(model.lm_head.weight, std=0.5)
    directory = tmp_path_factory.mktemp("bigram")
    model.save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def same_policy(bigram_model):
    """The model as the test server computes it."""
    model = Qwen3ForCausalLM.from_pretrained(bigram_model)
    with torch.no_grad():
        hidden = model.model.norm(model.model.embed_tokens.weight)
    return BigramPolicy.from_factors(
        hidden.double().numpy(), model.lm_head.weight.detach().double().numpy().T
    )


@pytest.fixture
def server(bigram_model, same_policy):
    with TinkerServer(bigram_model, policy=same_policy) as running:
        yield running


@pytest.fixture
def stale_batch(backend, bigram_model, prompts, sampling, to_batch):
    """A batch whose samples came from a policy somewhat different from the one that is trained."""
    batch = to_batch(sampling.sample(backend({"model.model": str(bigram_model)}).sampler, prompts))
    batch.logprobs_t[:] += np.random.default_rng(0).normal(0.0, 0.2, len(batch.tokens_t))
    return batch


@pytest.mark.parametrize("bounds", [{}, {"algorithm.params": {"clip_eps": 0.1}}])
def test_local_backend_and_service_report_the_same(configure, bigram_model, stale_batch, bounds):
    settings = {"model.model": str(bigram_model), **bounds}
    remote = TinkerBackend.from_config(configure(settings).policy())
    local = LocalBackend.from_config(
        load_config(
            None,
            {
                **settings,
                "backend.devices": "cpu",
                "model.lora_rank": 4,
                "training.seed": 3,
                "training.lr": 0.05,
            },
        ).policy()
    )
    one, other = local.trainer.train(stale_batch), remote.trainer.train(stale_batch)
    local.close()
    remote.close()
    assert one.num_tokens == other.num_tokens
    for name in ("loss", "mean_abs_logprob_diff", "kl_k3", "ratio_p99", "ratio_max"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-6), name
    assert one.clip_fraction == pytest.approx(other.clip_fraction)
    assert one.mean_abs_logprob_diff > 0.1


def test_the_service_gets_the_gradient_of_the_reference_loss(
    server, backend, bigram_model, stale_batch
):
    """With eps = 1 the first step of Adam is lr g / (|g| + 1), which tells the gradient g."""
    lr = 1e-3
    policy = backend({"model.model": str(bigram_model), "training.lr": lr, "optimizer.eps": 1.0})
    model = server.executed("create_model")[-1].model_id
    before = server.adapter(model)
    batch = stale_batch
    policy.trainer.train(batch)
    group_n = np.repeat(np.arange(len(batch.prompts)), np.diff(batch.group_offsets_g))
    previous_t = np.roll(batch.tokens_t, 1)
    previous_t[batch.token_offsets_n[:-1]] = [batch.prompts[group][-1] for group in group_n]
    new_t = server.policy.logprobs(previous_t, batch.tokens_t, before)
    loss = policy_loss(new_t, batch.logprobs_t, batch.advantages_t, batch.trained_t)
    expected = server.policy.gradient(previous_t, batch.tokens_t, loss.gradient, before)
    for old, new, gradient in zip(before, server.adapter(model), expected, strict=True):
        moved = (old - new) / lr
        assert moved / (1 - np.abs(moved)) == pytest.approx(gradient, abs=1e-6)
    assert np.abs(expected.b_RV).max() > 1e-3
