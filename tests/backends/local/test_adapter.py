import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM

from retrain_backends.local.layouts import Prefill


def logits_of(base, tokens):
    positions = torch.arange(tokens.shape[1]).expand_as(tokens)
    with torch.no_grad():
        return base.logits(base.hidden(tokens, positions, Prefill()))


@pytest.fixture
def tokens():
    return torch.tensor(np.random.default_rng(2).integers(0, 61, (3, 12)))


def test_bare_model_is_the_model(model_path, policy, tokens):
    parts = policy(model_path)
    parts.base.attach(None)
    reference = AutoModelForCausalLM.from_pretrained(model_path)
    with torch.no_grad():
        expected = reference(tokens).logits
    torch.testing.assert_close(logits_of(parts.base, tokens), expected, atol=1e-5, rtol=1e-5)


def test_peft_loads_what_export_writes(model_path, policy, tokens, tmp_path):
    parts = policy(model_path)
    parts.adapter.export(tmp_path, "the base")
    reference = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(model_path), str(tmp_path)
    )
    with torch.no_grad():
        expected = reference(tokens).logits
    torch.testing.assert_close(logits_of(parts.base, tokens), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("family", "transposed"), [("GPT-2", True), ("Llama", False)])
def test_the_files_say_whether_weights_are_transposed(
    family, transposed, policy, tiny_model, tmp_path
):
    policy(tiny_model(family)).adapter.export(tmp_path, "the base")
    assert LoraConfig.from_pretrained(str(tmp_path)).fan_in_fan_out is transposed


def test_new_adapter_changes_nothing(model_path, policy, tokens):
    parts = policy(model_path, active=False)
    with_adapter = logits_of(parts.base, tokens)
    parts.base.attach(None)
    torch.testing.assert_close(with_adapter, logits_of(parts.base, tokens), atol=1e-5, rtol=1e-5)


def test_merged_weights_are_the_adapter(model_path, policy, tokens):
    parts = policy(model_path)
    apart = logits_of(parts.base, tokens)
    with parts.base.merged():
        merged = logits_of(parts.base, tokens)
    assert not torch.equal(merged, apart)
    torch.testing.assert_close(merged, apart, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logits_of(parts.base, tokens), apart, atol=0, rtol=0)


def test_first_weights_depend_on_the_seed_alone(qwen3, policy):
    first, again, other = (policy(qwen3, active=False, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first.adapter.weights, again.adapter.weights)
    assert not torch.equal(first.adapter.weights, other.adapter.weights)


def test_first_weights_are_uniform_and_zero(qwen3, policy):
    state = policy(qwen3, active=False).adapter.state()
    for name, tensor in state.items():
        if "lora_B" in name:
            assert not tensor.any()
        else:
            bound = tensor.shape[1] ** -0.5
            assert tensor.abs().max() <= bound
            assert tensor.abs().max() > 0.9 * bound


def test_every_linear_layer_of_the_blocks_is_trained(qwen3, policy):
    names = {name.split(".lora_")[0] for name in policy(qwen3).adapter.state()}
    layers = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    assert len(names) == 2 * len(layers)
    assert {name.rsplit(".", 1)[-1] for name in names} == set(layers)


def test_state_goes_round(qwen3, policy):
    one, other = policy(qwen3, seed=3), policy(qwen3, seed=4)
    state = one.adapter.state()
    other.adapter.load_state(state)
    assert torch.equal(other.adapter.weights, one.adapter.weights)
    one.adapter.weights.zero_()
    assert torch.equal(other.adapter.state()[next(iter(state))], state[next(iter(state))])


def test_several_adapters_share_one_base(qwen3, policy, tokens):
    one, other = policy(qwen3, seed=3), policy(qwen3, seed=4)
    own = logits_of(other.base, tokens)
    one.base.attach(other.adapter)
    torch.testing.assert_close(logits_of(one.base, tokens), own, atol=0, rtol=0)
