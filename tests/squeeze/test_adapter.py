import json
import os

import numpy as np
import pytest
from safetensors.numpy import save_file

from retrain_squeeze.adapter import read_adapter
from retrain_squeeze.errors import AdapterError

PREFIX = "base_model.model."
SHAPES = {"layers.0.q": (6, 5), "layers.1.q": (7, 5)}


def refusal(path):
    with pytest.raises(AdapterError) as caught:
        read_adapter(path)
    line = str(caught.value)
    assert "\n" not in line
    assert str(path) in line
    assert caught.value.exit_code == 2
    return line


def test_modules_have_the_names_shapes_and_scales_of_the_model(save_adapter, factors):
    tensors = factors({"layers.0.q": (6, 5)}) | factors({"layers.1.q": (7, 5)}, rank=2)
    path = save_adapter(tensors, rank_pattern={"1.q": 2}, alpha_pattern={"1.q": 3.0})
    adapter = read_adapter(path)
    found = {module.name: (module.shape, module.rank, module.scale) for module in adapter.modules}
    assert found == {"layers.0.q": ((6, 5), 4, 2.0), "layers.1.q": ((7, 5), 2, 1.5)}
    assert adapter.rank == 4


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("base_model.model.q.lora_A.weight", "base_model.model.q.lora_B.weight"),
        (
            "base_model.model.q.lora_A.default.weight",
            "base_model.model.q.lora_B.default.weight",
        ),
        ("base_model.model.q.lora_embedding_A", "base_model.model.q.lora_embedding_B"),
        ("q.lora_A.weight", "q.lora_B.weight"),
    ],
)
def test_factors_are_known_by_their_names(save_adapter, a, b):
    path = save_adapter({a: np.ones((4, 5), np.float32), b: np.ones((6, 4), np.float32)})
    (module,) = read_adapter(path).modules
    assert (module.name, module.shape) == ("q", (6, 5))


def test_a_convolution_is_a_matrix_of_its_kernels(save_adapter):
    a, b = np.ones((4, 3, 2, 2), np.float32), np.ones((6, 4, 1, 1), np.float32)
    path = save_adapter({f"{PREFIX}c.lora_A.weight": a, f"{PREFIX}c.lora_B.weight": b})
    adapter = read_adapter(path)
    (module,) = adapter.modules
    assert module.shape == (6, 12)
    assert [matrix.shape for matrix in adapter.stored(module)] == [(4, 12), (6, 4)]


def test_biases_and_saved_modules_are_no_factors(save_adapter, factors):
    others = {
        f"{PREFIX}layers.0.q.lora_B.bias": np.ones(6, np.float32),
        f"{PREFIX}layers.0.q.base_layer.bias": np.ones(6, np.float32),
        f"{PREFIX}lm_head.weight": np.ones((9, 5), np.float16),
    }
    adapter = read_adapter(save_adapter(factors(SHAPES) | others))
    assert {tensor.name for tensor in adapter.others} == others.keys()
    assert len(adapter.modules) == 2


def test_no_directory(tmp_path):
    assert "no such directory" in refusal(tmp_path / "nothing")


def test_a_file_is_no_directory(save_adapter, factors):
    path = save_adapter(factors(SHAPES)) / "adapter_model.safetensors"
    assert "is a file; name the directory" in refusal(path)


def test_no_weights(save_adapter, factors):
    path = save_adapter(factors(SHAPES))
    (path / "adapter_model.safetensors").unlink()
    assert "has no adapter_model.safetensors" in refusal(path)


def test_pickle_is_refused_with_the_reason(save_adapter, factors):
    path = save_adapter(factors(SHAPES))
    (path / "adapter_model.safetensors").rename(path / "adapter_model.bin")
    assert "is a pickle file, which can run any code" in refusal(path)


def test_truncated_weights(save_adapter, factors):
    path = save_adapter(factors(SHAPES))
    file = path / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    assert "is not a complete safetensors file" in refusal(path)


@pytest.mark.parametrize(("lost", "lacks"), [("A", "lora_A"), ("B", "lora_B")])
def test_one_factor_alone(save_adapter, factors, lost, lacks):
    tensors = factors(SHAPES)
    del tensors[f"{PREFIX}layers.1.q.lora_{lost}.weight"]
    assert f"has no {lacks}; save" in refusal(save_adapter(tensors))


def test_ranks_that_disagree_with_each_other(save_adapter, factors):
    tensors = factors(SHAPES)
    tensors[f"{PREFIX}layers.1.q.lora_B.weight"] = np.ones((7, 3), np.float32)
    assert "lora_A.weight`, 4, and" in refusal(save_adapter(tensors))


@pytest.mark.parametrize("config", [{"r": 8}, {"rank_pattern": {"layers.1.q": 8}}])
def test_ranks_that_disagree_with_the_configuration(save_adapter, factors, config):
    line = refusal(save_adapter(factors(SHAPES), **config))
    assert "is 4, but adapter_config.json says 8" in line


def test_two_adapters_in_one_file(save_adapter, factors):
    tensors = factors({"q": (6, 5)})
    both = tensors | {name.replace("weight", "other.weight"): t for name, t in tensors.items()}
    assert "are factors of one module" in refusal(save_adapter(both))


@pytest.mark.parametrize("name", ["q.lora_magnitude_vector.weight", "q.lora_E", "q.lora_diag"])
def test_variants_of_lora(save_adapter, factors, name):
    tensors = factors(SHAPES) | {PREFIX + name: np.ones(6, np.float32)}
    assert f"{name}` belongs to a variant of LoRA" in refusal(save_adapter(tensors))


@pytest.mark.parametrize("shape", [(0,), (4, 0)])
def test_parts_of_tensors(save_adapter, factors, shape):
    tensors = factors(SHAPES)
    tensors[f"{PREFIX}layers.0.q.lora_A.weight"] = np.ones(shape, np.float32)
    assert "gather the model's weights before saving" in refusal(save_adapter(tensors))


def test_numbers_in_another_format(save_adapter, factors):
    tensors = {name: tensor.astype(np.int32) for name, tensor in factors(SHAPES).items()}
    assert "is stored as I32" in refusal(save_adapter(tensors))


def test_no_factors_at_all(save_adapter):
    path = save_adapter({"lm_head.weight": np.ones(4, np.float32)})
    assert "has no lora_A and lora_B" in refusal(path)


def test_no_configuration(tmp_path, factors):
    save_file(factors(SHAPES), tmp_path / "adapter_model.safetensors")
    assert "adapter_config.json: no such file" in refusal(tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 4}))
    assert "`peft_type` is missing" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_regular_file_is_not_read(save_adapter, factors, name, make):
    path = save_adapter(factors({"layers.0.q": (6, 5)}))
    (path / name).unlink()
    make(path / name)
    assert "is not a regular file" in refusal(path)


def test_control_characters_of_a_name_are_escaped(tmp_path):
    with pytest.raises(AdapterError, match=r"a\\x1bb: no such directory"):
        read_adapter(tmp_path / "a\x1bb")
