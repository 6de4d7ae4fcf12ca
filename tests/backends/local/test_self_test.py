import pytest
import torch

from retrain_backends.errors import ModelError
from retrain_backends.local import attention
from retrain_backends.local.backend import LocalBackend
from retrain_backends.local.base_model import BaseModel
from retrain_backends.local.layouts import Decode, Packed, Prefill
from retrain_backends.local.self_test import FLOAT32, Texts, differences, self_test

BUDGET = 4096
LONG = Texts(prompts=(11, 4), completions=((9, 3, 6), (4,)), window=None)  # windows have 4 tokens
SAMPLE = ["Gemma 2", "gpt-oss", "GPT-2", "DeepSeek-V3"]


@pytest.fixture
def load(tiny_model):
    """`load(family)`: the base model of a tiny model of a family."""

    def build(family, dtype=torch.float32, kind=BaseModel):
        return kind(tiny_model(family), family, torch.device("cpu"), dtype)

    return build


@pytest.mark.parametrize("texts", [Texts(), LONG], ids=["short windows", "long texts"])
@pytest.mark.parametrize("family", SAMPLE)
def test_passes_are_those_of_transformers(family, texts, load):
    base = load(family)
    *logprobs, gradient = differences(base, base, texts, BUDGET)
    assert [each.what for each in logprobs] == ["prefill", "cached decoding", "packed training"]
    assert all(each.value < 1e-4 for each in logprobs), logprobs
    assert gradient.value < 1e-4
    assert {each.tolerated for each in logprobs} == {FLOAT32.logprob}


@pytest.mark.parametrize("budget", [1, 12])
def test_the_split_into_micro_batches_does_not_matter(budget, load):
    base = load("Gemma 2")
    assert all(each.value < 1e-4 for each in differences(base, base, LONG, budget))


@pytest.mark.parametrize("family", ["Llama", "Gemma 2", "Mixtral"])
def test_rounding_of_bfloat16_is_no_alarm(family, load):
    base = load(family, torch.bfloat16)
    self_test((base, None), (base, None), BUDGET)


class Wrong(BaseModel):
    """Rotates the texts of one layout otherwise."""

    layout = Prefill

    def hidden(self, tokens, positions, layout, cache=None):
        factor = 2 if isinstance(layout, self.layout) else 1
        return super().hidden(tokens, positions * factor, layout, cache)


class WrongDecoding(Wrong):
    layout = Decode


class WrongTraining(Wrong):
    layout = Packed


class WrongGradient(BaseModel):
    """The gradient of each pass is twice what it should be."""

    def hidden(self, tokens, positions, layout, cache=None):
        hidden = super().hidden(tokens, positions, layout, cache)
        return 2 * hidden - hidden.detach()


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (Wrong, "prefill differs"),
        (WrongDecoding, "cached decoding differs"),
        (WrongTraining, "packed training differs"),
        (WrongGradient, r"the gradient of model\.layers\.\d\.\w+\.\w+ differs"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_pass_that_is_wrong_is_named(kind, what, dtype, load):
    base = load("Llama", dtype, kind)
    with pytest.raises(ModelError, match=what) as caught:
        self_test((base, None), (base, None), BUDGET)
    assert "model `Llama` (LlamaForCausalLM) is not supported" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_error_of_the_architecture_is_one_line(local_config, tiny_model):
    config = local_config(model={"model": tiny_model("Nemotron")})
    with pytest.raises(ModelError, match="its layers do not pass keyword arguments on") as caught:
        LocalBackend.from_config(config)
    assert "(NemotronForCausalLM)" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_is_left_behind(policy, tiny_model):
    parts = policy(tiny_model("Gemma 2"))
    base, adapter = parts.base, parts.adapter
    factors = [projection.factors.a for projection in base.projections]
    weights, state = adapter.weights.clone(), torch.get_rng_state()
    self_test((base, adapter), (base, adapter), BUDGET)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(adapter.weights, weights)
    assert not adapter.gradient.any()
    assert all(p.factors.a is a for p, a in zip(base.projections, factors, strict=True))
    assert base.model.config._attn_implementation == attention.NAME
    assert base.model.config.sliding_window == 4
    layers = [layer for projection in base.projections for layer in projection.layers]
    assert not any(layer._forward_hooks for layer in layers)
    windows = [layer.self_attn.sliding_window for layer in base.backbone.layers]
    assert windows == [4, None, 4, None]


@pytest.mark.parametrize("devices", ["cpu", "cpu,cpu"])
def test_every_policy_is_tested(devices, local_config, tiny_model):
    config = local_config(
        model={"model": tiny_model("Gemma 3 (text)")},
        backend={"devices": devices, "options": {"gradient_checkpointing": True}},
    )
    backend = LocalBackend.from_config(config)
    assert not backend.trainer.adapter.gradient.any()
