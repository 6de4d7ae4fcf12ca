"""Against PEFT itself: its rules for patterns, and the models it makes of what is written."""

import json

import pytest

from retrain_squeeze import analyze_adapter, compress_adapter
from retrain_squeeze.peft_config import PeftConfig

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 40}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
TOKENS = torch.arange(24).reshape(2, 12)
NAMES = [
    f"{tower}model.layers.{i}.attn.{x}_proj" for tower in ("", "t.") for i in (0, 1) for x in "qo"
]
PATTERNS = [
    {},
    {"q_proj": 3},
    {"proj": 3},
    {"layers.0.attn.q_proj": 3, "q_proj": 5},
    {"q_proj": 5, "layers.0.attn.q_proj": 3},
    {"^model.layers.0.attn.q_proj": 3},
    {r".*\.0\..*": 3},
    {"attn.(q|o)_proj": 3},
]


@pytest.mark.parametrize("patterns", PATTERNS, ids=str)
def test_patterns_are_matched_as_peft_matches_them(patterns):
    values = {"r": 8, "lora_alpha": 16, "rank_pattern": patterns, "alpha_pattern": patterns}
    config = PeftConfig.model_validate({"peft_type": "LORA", **values})
    for name in NAMES:
        key = peft.utils.other.get_pattern_key(patterns.keys(), name)
        assert config.rank(name) == patterns.get(key, 8)
        assert config.alpha(name) == patterns.get(key, 16)


def base_model():
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES, **HEADS)).eval()


@pytest.fixture
def trained(tmp_path):
    """`trained(**config)`: the directory of an adapter whose factors are all random."""

    def save(dtype=torch.float32, **config):
        config = {"r": 8, "lora_alpha": 12, "target_modules": ["q_proj", "up_proj"]} | config
        model = peft.get_peft_model(base_model(), peft.LoraConfig(task_type="CAUSAL_LM", **config))
        for name, parameter in model.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                size = 0.7 ** torch.arange(parameter.shape[-1]) if "lora_B" in name else 0.1
                parameter.data = (size * torch.randn_like(parameter)).to(dtype)
        model.save_pretrained(tmp_path / "source", save_embedding_layers=False)
        return tmp_path / "source"

    return save


def load(path):
    return peft.PeftModel.from_pretrained(base_model(), path).eval()


def lora_layers(model):
    return {
        name.removeprefix("base_model.model."): module
        for name, module in model.named_modules()
        if isinstance(module, peft.tuners.lora.LoraLayer)
    }


def updates(path):
    layers = lora_layers(load(path))
    return {name: layer.get_delta_weight("default").double() for name, layer in layers.items()}


def best(update, rank):
    u, s, vt = torch.linalg.svd(update, full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ vt[:rank]


def logits_with(weights, path):
    """What the model says when updates are added to its weights, and its saved modules used."""
    merged = load(path)
    with torch.no_grad():
        for name, layer in lora_layers(merged).items():
            layer.base_layer.weight += weights[name].float()
        merged.disable_adapter_layers()
        for module in merged.modules():
            if isinstance(module, peft.utils.ModulesToSaveWrapper):
                module.enable_adapters(True)
        return merged(TOKENS).logits


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"use_rslora": True},
        {"rank_pattern": {"1.self_attn.q_proj": 5}, "alpha_pattern": {"up_proj": 3}},
        {"modules_to_save": ["lm_head"], "init_lora_weights": "orthogonal"},
        {"target_modules": ["embed_tokens", "down_proj"]},
    ],
    ids=str,
)
def test_the_forward_pass_is_that_of_the_best_approximation(trained, tmp_path, config):
    source = trained(**config)
    compress_adapter(source, tmp_path / "squeezed", 3)
    expected = {name: best(update, 3) for name, update in updates(source).items()}
    for name, update in updates(tmp_path / "squeezed").items():
        torch.testing.assert_close(update, expected[name], atol=1e-6, rtol=0)
    with torch.no_grad():
        got = load(tmp_path / "squeezed")(TOKENS).logits
    torch.testing.assert_close(got, logits_with(expected, source), atol=1e-5, rtol=0)
    assert all(
        layer.r["default"] == 3 for layer in lora_layers(load(tmp_path / "squeezed")).values()
    )


def test_ranks_of_their_own_load_too(trained, tmp_path):
    source = trained(target_modules=["q_proj", "v_proj", "up_proj"], alpha_pattern={"v_proj": 3})
    analysis = analyze_adapter(source, 0.8)
    ranks = analysis.module_ranks()
    rank = analysis.recommended_rank
    compress_adapter(source, tmp_path / "squeezed", rank, module_ranks=ranks)
    model = load(tmp_path / "squeezed")
    assert {name: layer.r["default"] for name, layer in lora_layers(model).items()} == ranks
    assert len(set(ranks.values())) > 1
    before = updates(source)
    for name, update in updates(tmp_path / "squeezed").items():
        torch.testing.assert_close(update, best(before[name], ranks[name]), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("dtype", "atol"), [(torch.bfloat16, 0.01), (torch.float16, 1e-3)])
def test_half_precision_stays(trained, tmp_path, dtype, atol):
    source = trained(dtype)
    compress_adapter(source, tmp_path / "squeezed", 3)
    before = updates(source)
    for name, update in updates(tmp_path / "squeezed").items():
        torch.testing.assert_close(update, best(before[name], 3), atol=atol, rtol=0)
    config = json.loads((tmp_path / "squeezed" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (3, 4.5)


def test_every_module_is_loaded_even_if_the_configuration_names_none(trained, tmp_path):
    source = trained(target_modules="all-linear")
    expected = {name: best(update, 3) for name, update in updates(source).items()}
    file = source / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "target_modules": None}))
    compress_adapter(source, tmp_path / "squeezed", 3)
    found = updates(tmp_path / "squeezed")
    assert found.keys() == expected.keys()
    for name, update in found.items():
        torch.testing.assert_close(update, expected[name], atol=1e-6, rtol=0)
