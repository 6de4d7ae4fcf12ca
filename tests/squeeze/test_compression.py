import json
import os
import tracemalloc
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, safe_open

from retrain_squeeze import (
    AdapterError,
    SqueezeConfigError,
    SqueezeError,
    analyze_adapter,
    compress_adapter,
)
from retrain_squeeze.adapter import read_adapter
from retrain_squeeze.tensors import decode, encode

PREFIX = "base_model.model."
SHAPES = {"layers.0.q": (6, 5), "layers.0.up": (12, 5), "layers.1.q": (6, 5)}
GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "squeeze.json"
CASES = json.loads(GOLDEN.read_text())["cases"]


def updates(path):
    """The scaled update of every module, in float64."""
    adapter = read_adapter(path)
    found = {}
    for module in adapter.modules:
        a, b = (decode(factor[:]) for factor in adapter.stored(module))
        found[module.name] = module.scale * b @ a
    return found


def best(update, rank):
    u, s, vt = np.linalg.svd(update, full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ vt[:rank]


def config_of(path):
    return json.loads((path / "adapter_config.json").read_text("utf-8"))


def everything(path):
    return sorted(str(file.relative_to(path)) for file in path.rglob("*"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_golden(case, golden_adapter, tmp_path):
    tolerance = {key: case["tolerance"][key] for key in ("abs", "rel")}
    path = golden_adapter(case)
    old = load_file(path / "adapter_model.safetensors")
    for expected in case["expected"]["compressed"]:
        output = tmp_path / f"rank{expected['target_rank']}"
        compress_adapter(path, output, expected["target_rank"])
        config, new = config_of(output), load_file(output / "adapter_model.safetensors")
        assert (config["r"], config["lora_alpha"]) == (expected["r"], expected["lora_alpha"])
        for layer in expected["layers"]:
            name = f"{PREFIX}{layer['name']}.lora_{{}}.weight"
            (a, b), (old_a, old_b) = (
                [tensors[name.format(x)].astype(float) for x in "AB"] for tensors in (new, old)
            )
            delta = b @ a
            error = np.linalg.norm(delta - old_b @ old_a) / np.linalg.norm(old_b @ old_a)
            got = {
                "name": layer["name"],
                "a_shape": list(a.shape),
                "b_shape": list(b.shape),
                "delta_fro": np.linalg.norm(delta),
                "relative_error_fro": error,
                "probe_head": (delta @ np.cos(np.arange(delta.shape[1])))[:6].tolist(),
                "a_fro": np.linalg.norm(a),
                "b_fro": np.linalg.norm(b),
            }
            assert got.keys() == layer.keys()
            for key, value in layer.items():
                is_number = isinstance(value, float) or key == "probe_head"
                assert got[key] == (pytest.approx(value, **tolerance) if is_number else value)


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("rank", [1, 3, 4])
def test_the_update_is_the_best_of_its_rank(save_adapter, factors, tmp_path, rank, rslora):
    path = save_adapter(factors(SHAPES), use_rslora=rslora, lora_alpha=3)
    compress_adapter(path, tmp_path / "out", rank)
    after = updates(tmp_path / "out")
    for name, update in updates(path).items():
        np.testing.assert_allclose(after[name], best(update, rank), atol=1e-5)


def test_alpha_is_not_rounded(save_adapter, factors, tmp_path):
    compress_adapter(save_adapter(factors(SHAPES), lora_alpha=1), tmp_path / "out", 1)
    assert config_of(tmp_path / "out")["lora_alpha"] == 0.25


@given(st.integers(0, 99), st.floats(0.05, 1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
def test_the_source_rank_changes_nothing(save_adapter, factors, tmp_path, seed, decay):
    path = save_adapter(factors(SHAPES, seed=seed, decay=decay, dtype=np.float64))
    output = path.with_name(f"{path.name}.out")
    compress_adapter(path, output, 4)
    after = updates(output)
    for name, update in updates(path).items():
        np.testing.assert_allclose(after[name], update, atol=1e-12 * np.linalg.norm(update))


def test_patterns_of_the_source_are_kept(save_adapter, factors, tmp_path):
    tensors = factors({"a.q": (6, 5)}) | factors({"b.q": (7, 5)}, rank=2)
    path = save_adapter(tensors, rank_pattern={"b.q": 2}, alpha_pattern={"a.q": 3.0})
    compress_adapter(path, tmp_path / "out", 3)
    after = updates(tmp_path / "out")
    before = updates(path)
    np.testing.assert_allclose(after["a.q"], best(before["a.q"], 3), atol=1e-5)
    np.testing.assert_allclose(after["b.q"], before["b.q"], atol=1e-5)
    assert [module.rank for module in read_adapter(tmp_path / "out").modules] == [3, 2]


def test_ranks_of_their_own(save_adapter, factors, tmp_path):
    tensors = factors({"0.up": (40, 30), "1.up": (40, 30)}, decay=0.95)
    tensors |= factors({"0.q": (20, 20), "1.q": (20, 20)}, decay=0.3)
    path = save_adapter(tensors)
    analysis = analyze_adapter(path, 0.8)
    ranks = analysis.module_ranks()
    assert len(set(ranks.values())) > 1
    compress_adapter(path, tmp_path / "out", analysis.recommended_rank, module_ranks=ranks)
    squeezed = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert sum(tensor.size for tensor in squeezed.values()) == analysis.parameters(ranks)
    after = updates(tmp_path / "out")
    for name, update in updates(path).items():
        np.testing.assert_allclose(after[name], best(update, ranks[name]), atol=1e-5)


def test_ranks_of_some_modules(save_adapter, factors, tmp_path):
    path = save_adapter(factors(SHAPES))
    compress_adapter(path, tmp_path / "out", 2, module_ranks={"layers.0.up": 4})
    found = {module.name: module.rank for module in read_adapter(tmp_path / "out").modules}
    assert found == {"layers.0.q": 2, "layers.0.up": 4, "layers.1.q": 2}


def test_ranks_of_numpy_are_ranks(save_adapter, factors, tmp_path):
    path, (two, three) = save_adapter(factors(SHAPES)), np.array([2, 3])
    compress_adapter(path, tmp_path / "out", two, module_ranks={"layers.0.up": three})
    assert config_of(tmp_path / "out")["rank_pattern"] == {r"^layers\.0\.q": 2, r"^layers\.1\.q": 2}
    with pytest.raises(TypeError):
        compress_adapter(path, tmp_path / "none", 2.0)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
def test_formats_stay_and_what_is_no_factor_is_copied(tmp_path, factors, save_adapter, dtype):
    path = tmp_path / "source"
    path.mkdir()
    tensors, header, data = factors(SHAPES), {"__metadata__": {"format": "pt"}}, b""
    blobs = {name: (dtype, t.shape, encode(t.astype(float), dtype)) for name, t in tensors.items()}
    blobs[f"{PREFIX}lm_head.weight"] = ("I8", (3, 3), np.arange(9, dtype=np.int8))
    blobs[f"{PREFIX}layers.0.q.lora_B.bias"] = ("F64", (6,), np.arange(6.0))
    for name, (kind, shape, stored) in blobs.items():
        offsets = [len(data), len(data) + stored.nbytes]
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": offsets}
        data += stored.tobytes()
    text = json.dumps(header).encode()
    content = len(text).to_bytes(8, "little") + text + data
    (path / "adapter_model.safetensors").write_bytes(content)
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "modules_to_save": ["lm_head"]}
    (path / "adapter_config.json").write_text(json.dumps({**config, "unknown": {"é": 1}}))
    compress_adapter(path, tmp_path / "out", 2)
    source, squeezed = read_adapter(path), read_adapter(tmp_path / "out")
    assert {m.a.dtype for m in squeezed.modules} == {m.b.dtype for m in squeezed.modules} == {dtype}
    assert squeezed.file.metadata == {"format": "pt"}
    kept = {
        t.name: (t.dtype, t.shape, squeezed.file.path.read_bytes()[t.start :][: t.size])
        for t in squeezed.others
    }
    assert kept == {
        t.name: (t.dtype, t.shape, source.file.path.read_bytes()[t.start :][: t.size])
        for t in source.others
    }
    written = config_of(tmp_path / "out")
    assert written["unknown"] == {"é": 1}
    assert written["modules_to_save"] == ["lm_head"]
    tolerance = {"F16": 1e-2, "BF16": 6e-2, "F32": 1e-5}[dtype]
    after = updates(tmp_path / "out")
    for name, update in updates(path).items():
        np.testing.assert_allclose(after[name], best(update, 2), atol=tolerance)


def test_convolutions_and_embeddings(save_adapter, tmp_path):
    rng = np.random.default_rng(0)
    shapes = {
        "conv.lora_A.weight": (4, 3, 2, 2),
        "conv.lora_B.weight": (6, 4, 1, 1),
        "wte.lora_embedding_A": (4, 50),
        "wte.lora_embedding_B": (8, 4),
    }
    drawn = {PREFIX + name: rng.standard_normal(shape) for name, shape in shapes.items()}
    path = save_adapter({name: tensor.astype(np.float32) for name, tensor in drawn.items()})
    compress_adapter(path, tmp_path / "out", 2)
    squeezed = load_file(tmp_path / "out" / "adapter_model.safetensors")
    shapes = {name.removeprefix(PREFIX): tensor.shape for name, tensor in squeezed.items()}
    assert shapes == {
        "conv.lora_A.weight": (2, 3, 2, 2),
        "conv.lora_B.weight": (6, 2, 1, 1),
        "wte.lora_embedding_A": (2, 50),
        "wte.lora_embedding_B": (8, 2),
    }
    after = updates(tmp_path / "out")
    for name, update in updates(path).items():
        np.testing.assert_allclose(after[name], best(update, 2), atol=1e-5)


def test_the_output_is_a_directory_of_the_adapter_and_its_tokenizer(
    save_adapter, factors, tmp_path
):
    path = save_adapter(factors(SHAPES))
    (path / "tokenizer.json").write_text("{}")
    (path / "notes.txt").write_text("mine")
    output = tmp_path / "new" / "out"
    compress_adapter(path, output, 2)
    assert everything(output.parent) == [
        "out",
        "out/adapter_config.json",
        "out/adapter_model.safetensors",
        "out/tokenizer.json",
    ]
    with safe_open(output / "adapter_model.safetensors", framework="numpy") as file:
        assert file.metadata() == {"format": "pt"}


def test_an_empty_directory_is_taken(save_adapter, factors, tmp_path):
    (tmp_path / "out").mkdir()
    compress_adapter(save_adapter(factors(SHAPES)), tmp_path / "out", 2)
    assert everything(tmp_path / "out") == ["adapter_config.json", "adapter_model.safetensors"]


def test_the_working_directory_is_taken(save_adapter, factors, tmp_path):
    (tmp_path / "out").mkdir()
    with chdir(tmp_path / "out"):
        compress_adapter(save_adapter(factors(SHAPES)), ".", 2)
        assert everything(Path.cwd()) == ["adapter_config.json", "adapter_model.safetensors"]


@pytest.mark.parametrize("there", [True, False])
def test_a_link_to_a_directory_is_taken(save_adapter, factors, tmp_path, there):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / ("there" if there else "not"))
    compress_adapter(save_adapter(factors(SHAPES)), tmp_path / "link", 2)
    assert read_adapter(tmp_path / "link").rank == 2


def test_what_comes_into_the_directory_meanwhile_is_left_alone(save_adapter, factors, tmp_path):
    output, path = tmp_path / "out", save_adapter(factors(SHAPES))
    output.mkdir()
    with pytest.raises(SqueezeConfigError, match="a directory with files in it"):
        compress_adapter(
            path, output, 2, on_module=lambda *_: (output / "adapter_config.json").write_text("")
        )
    assert everything(output) == ["adapter_config.json"]


@pytest.mark.parametrize(
    ("rank", "ranks", "said"),
    [
        (5, None, "the target rank is `5`, but the rank of"),
        (0, None, "the target rank is `0`"),
        (2, {"layers.9.q": 2}, "module_ranks names `layers.9.q`"),
        (2, {"layers.0.q": 5}, "module_ranks gives `layers.0.q` the rank 5"),
        (2, {"layers.0.q": 0}, "it must be from 1 to its rank, 4"),
    ],
)
def test_ranks_out_of_range(save_adapter, factors, tmp_path, rank, ranks, said):
    path = save_adapter(factors(SHAPES))
    before = everything(tmp_path)
    with pytest.raises(SqueezeConfigError) as caught:
        compress_adapter(path, tmp_path / "out", rank, module_ranks=ranks)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert everything(tmp_path) == before


def test_a_directory_with_files_is_left_alone(save_adapter, factors, tmp_path):
    path = save_adapter(factors(SHAPES))
    before = everything(tmp_path)
    for output in (path, tmp_path):
        with pytest.raises(SqueezeConfigError, match="a directory with files in it"):
            compress_adapter(path, output, 2)
    with pytest.raises(SqueezeConfigError, match="a file; name a directory"):
        compress_adapter(path, path / "adapter_config.json", 2)
    assert everything(tmp_path) == before


@pytest.mark.parametrize(
    ("value", "dtype", "said"),
    [(np.nan, np.float32, "contain NaN or infinity"), (6e4, np.float16, "too large for F16")],
)
def test_a_failure_half_way_leaves_nothing(save_adapter, factors, tmp_path, value, dtype, said):
    tensors = factors(SHAPES, dtype=dtype)
    name = f"{PREFIX}layers.1.q.lora_{{}}.weight"
    for letter in "AB":
        tensors[name.format(letter)][:] = value
    path = save_adapter(tensors)
    before = everything(tmp_path)
    with pytest.raises(AdapterError, match=said):
        compress_adapter(path, tmp_path / "out", 2)
    assert everything(tmp_path) == before


def test_an_interruption_leaves_nothing(save_adapter, factors, tmp_path):
    def interrupt(done, total):
        raise KeyboardInterrupt

    path = save_adapter(factors(SHAPES))
    before = everything(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        compress_adapter(path, tmp_path / "out", 2, on_module=interrupt)
    assert everything(tmp_path) == before


def test_where_nothing_can_be_written(save_adapter, factors, tmp_path):
    path = save_adapter(factors(SHAPES))
    (tmp_path / "file").write_text("")
    with pytest.raises(SqueezeError) as caught:
        compress_adapter(path, tmp_path / "file" / "out", 2)
    line = f"output_path `{tmp_path / 'file' / 'out'}` cannot be written"
    assert str(caught.value).startswith(line)


@pytest.mark.parametrize("shape", [(300_000, 3), (3, 300_000)])
def test_memory_does_not_grow_with_a_module(save_adapter, factors, tmp_path, shape):
    path = save_adapter(factors({"q": shape}, rank=16), r=16)
    tracemalloc.start()
    try:
        analyze_adapter(path)
        compress_adapter(path, tmp_path / "out", 16)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < (path / "adapter_model.safetensors").stat().st_size / 4
    (before,), (after,) = (updates(p).values() for p in (path, tmp_path / "out"))
    np.testing.assert_allclose(after, before, atol=1e-4)


def test_progress_counts_the_modules(save_adapter, factors, tmp_path):
    seen = []
    path = save_adapter(factors(SHAPES))
    compress_adapter(path, tmp_path / "out", 2, on_module=lambda *at: seen.append(at))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert os.access(tmp_path / "out", os.R_OK | os.X_OK)
