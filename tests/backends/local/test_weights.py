import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from retrain_backends.errors import ModelError
from retrain_backends.local.weights import load_model

CPU = torch.device("cpu")
FILE = "model.safetensors"
QUERY = "model.layers.1.self_attn.q_proj.weight"


@pytest.fixture
def copy(qwen2, tmp_path):
    """A copy of a model, to be damaged."""
    directory = tmp_path / "model"
    shutil.copytree(qwen2, directory)
    return directory


def load(directory):
    return load_model(str(directory), "the-model", CPU, torch.float32)


def message(directory, capfd):
    """The one line with which loading fails; nothing else is shown."""
    capfd.readouterr()
    with pytest.raises(ModelError) as caught:
        load(directory)
    assert capfd.readouterr() == ("", "")
    text = str(caught.value)
    assert text.startswith(("model `the-model` cannot be ", "model.model: "))
    assert "\n" not in text
    return text


def edit(path: Path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change(directory, work):
    """Replace the tensors by what `work` makes of them."""
    tensors = load_file(directory / FILE)
    work(tensors)
    save_file(tensors, directory / FILE, {"format": "pt"})


def split(directory):
    """The same weights in two shards."""
    model = AutoModelForCausalLM.from_pretrained(directory)
    (directory / FILE).unlink()
    model.save_pretrained(directory, max_shard_size=20_000)
    return sorted(directory.glob("model-*.safetensors"))


def test_whole_weights_are_loaded(copy, capfd):
    expected = load_file(copy / FILE)[QUERY]
    split(copy)
    capfd.readouterr()
    assert torch.equal(load(copy).state_dict()[QUERY], expected)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("share", [0, 0.0001, 0.01, 0.5, 0.9999])
def test_truncated_weights(copy, share, capfd):
    whole = (copy / FILE).read_bytes()
    (copy / FILE).write_bytes(whole[: int(share * len(whole))])
    assert f"`{FILE}` is damaged or incomplete (Safe" in message(copy, capfd)


def test_a_page_in_place_of_the_weights(copy, capfd):
    (copy / FILE).write_text("<html>not found</html>")
    assert f"`{FILE}` is damaged or incomplete" in message(copy, capfd)


def test_a_damaged_shard_is_named(copy, capfd):
    shard = split(copy)[-1]
    shard.write_bytes(shard.read_bytes()[:100])
    assert f"`{shard.name}` is damaged or incomplete" in message(copy, capfd)


def test_a_missing_shard_is_named(copy, capfd):
    shard = split(copy)[-1]
    shard.unlink()
    assert shard.name in message(copy, capfd)


@pytest.mark.parametrize("index", ["{}", "[]", "{", '{"metadata": {}, "weight_map": {}}', "null"])
def test_a_damaged_index(copy, index, capfd):
    split(copy)
    (copy / "model.safetensors.index.json").write_text(index)
    assert "model.safetensors.index.json" in message(copy, capfd)


def test_no_weights(copy, capfd):
    (copy / FILE).unlink()
    assert "pickle is not read" in message(copy, capfd)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(copy, value, capfd):
    change(copy, lambda tensors: tensors[QUERY].view(-1)[3].fill_(value))
    assert f"`{QUERY}` contains NaN or infinity" in message(copy, capfd)


def test_weights_that_are_missing(copy, capfd):
    change(copy, lambda tensors: tensors.pop(QUERY))
    assert f"the weights lack `{QUERY}`, which config.json requires" in message(copy, capfd)


def test_weights_of_another_model(copy, capfd):
    save_file({"other": torch.zeros(2)}, copy / FILE, {"format": "pt"})
    assert "the weights lack `lm_head.weight` and " in message(copy, capfd)


def test_weights_that_nothing_uses_are_left_out(copy):
    change(copy, lambda tensors: tensors.update({"vision.weight": torch.zeros(2)}))
    load(copy)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"num_hidden_layers": 1}, "for which config.json has no layer"),
        ({"num_hidden_layers": 3}, "which config.json requires"),
        ({"hidden_size": 16}, "in the weights and "),
        ({"vocab_size": 60}, "`lm_head.weight` has the shape (61, 32) in the weights and (60, 32)"),
        ({"vocab_size": "61"}, "expected int, got str"),
        ({"vocab_size": -1}, "check config.json"),
        ({"num_attention_heads": 0}, "ZeroDivisionError"),
        ({"hidden_act": "nonsense"}, "'nonsense'"),
        ({"model_type": "nonsense"}, "does not recognize this architecture"),
        ({"model_type": "t5"}, "T5Config"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "optimum"),
    ],
    ids=str,
)
def test_a_configuration_that_does_not_fit(copy, changes, problem, capfd):
    if "num_hidden_layers" in changes:
        changes["layer_types"] = ["full_attention"] * changes["num_hidden_layers"]
    edit(copy / "config.json", **changes)
    assert problem in message(copy, capfd)
