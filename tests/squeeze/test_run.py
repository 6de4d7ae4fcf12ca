import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from retrain_squeeze import SqueezeConfigError, SqueezeSettings, run_squeeze
from retrain_squeeze.__main__ import main
from retrain_squeeze.adapter import read_adapter

PNG = b"\x89PNG\r\n"
Q, V = "model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.v_proj"


@pytest.fixture
def adapter(tmp_path):
    """An adapter of rank 4 whose updates have the singular values 1, 1/2, 1/4 and 1/8."""
    directory = tmp_path / "run" / "final"
    directory.mkdir(parents=True)
    tensors = {}
    for module, outputs in ((Q, 16), (V, 8)):
        a, b = np.eye(4, 12, dtype=np.float32), np.eye(outputs, 4, dtype=np.float32)
        tensors[f"base_model.model.{module}.lora_A.weight"] = a
        tensors[f"base_model.model.{module}.lora_B.weight"] = b * 0.5 ** np.arange(4, dtype="f")
    save_file(tensors, directory / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"]}
    (directory / "adapter_config.json").write_text(json.dumps(config))
    return directory


@pytest.fixture
def squeeze(capsys):
    """Run a command line: (exit code, stdout, stderr)."""

    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        return (code, *capsys.readouterr())

    return run


def test_the_table_points_at_the_recommendation(squeeze, adapter):
    code, page, errors = squeeze(adapter)
    assert (code, errors) == (0, "")
    lines = page.splitlines()
    assert [line.split("│")[1:5] for line in lines if line.startswith("│")] == [
        ["    1 ", "     75.29 ", "    75.29 ", "    75.29 "],
        ["    2 ", "     94.12 ", "    94.12 ", "    94.12 "],
        ["    4 ", "    100.00 ", "   100.00 ", "   100.00 "],
    ]
    assert ["recommended" in line for line in lines if line.startswith("│")] == [False, False, True]
    assert "lowest: rank 3 would be sufficient; add it to target_ranks (--target-ranks)" in lines
    assert "modules: 2 layers" in lines


def test_it_names_the_worst_modules_and_the_sizes(squeeze, adapter):
    _, page, _ = squeeze(adapter, "--min-variance-retention", 0.9)
    assert "recommended: rank 2 of 4: keeps 94.12% of the variance on average, 90% is req" in page
    assert f"least kept at 2: 94.12% {Q}, 94.12% {V}" in page
    assert "size at 4: 192 parameters, 0.00 MB, the adapter itself" in page
    assert "size at 2: 96 parameters, 0.00 MB (50%)" in page


def test_the_picture_is_beside_the_adapter(squeeze, adapter):
    _, page, _ = squeeze(adapter)
    picture = adapter.parent / "squeeze.png"
    assert f"picture: {picture}" in page
    assert picture.read_bytes().startswith(PNG)


def test_a_picture_that_cannot_be_written_beside_it_is_written_elsewhere(squeeze, adapter):
    (adapter.parent / "squeeze.png").mkdir()
    output = adapter.parents[1] / "out" / "small"
    code, _, errors = squeeze(adapter, "--output-path", output)
    assert (code, errors) == (0, "")
    assert (output.parent / "squeeze.png").read_bytes().startswith(PNG)


def test_json_is_all_there_is_on_standard_output(squeeze, adapter, tmp_path):
    code, page, errors = squeeze(
        adapter, "--json", "--output-path", tmp_path / "small", "--min-variance-retention", 0.9
    )
    assert (code, errors) == (0, "")
    found = json.loads(page)
    assert found["adapter"] == str(adapter)
    assert (found["source_rank"], found["recommended_rank"], found["num_layers"]) == (4, 2, 2)
    assert [row["rank"] for row in found["table"] if row["recommended"]] == [2]
    assert found["table"][0] == {
        "rank": 1,
        "mean": pytest.approx(64 / 85),
        "min": pytest.approx(64 / 85),
        "max": pytest.approx(64 / 85),
        "recommended": False,
    }
    assert found["worst_modules"][0]["retained"] == pytest.approx(80 / 85)
    assert found["sizes"]["source"] == {"parameters": 192, "bytes": 768}
    assert found["sizes"]["recommended"] == {"parameters": 96, "bytes": 384}
    assert found["output"] == str(tmp_path / "small")
    assert found["output_ranks"] == {Q: 2, V: 2}
    assert (found["zero_modules"], found["wandb"]) == ([], None)


@pytest.mark.parametrize(
    ("flags", "ranks"),
    [
        (["--min-variance-retention", "0.9"], {Q: 2, V: 2}),
        (["--compress-to", "3"], {Q: 3, V: 3}),
        (["--min-variance-retention", "0.75", "--per-module"], {Q: 1, V: 1}),
    ],
)
def test_it_compresses(squeeze, adapter, tmp_path, flags, ranks):
    output = tmp_path / "small"
    code, page, _ = squeeze(adapter, "--output-path", output, *flags)
    assert code == 0
    assert f"adapter: {output} (rank {ranks[Q]}, " in page
    assert {module.name: module.rank for module in read_adapter(output).modules} == ranks


def test_zero_modules_are_named(squeeze, adapter):
    file = adapter / "adapter_model.safetensors"
    names = [f"base_model.model.{V}.lora_{letter}.weight" for letter in "AB"]
    shapes = [(4, 12), (8, 4)]
    others = read_adapter(adapter).modules[0]
    tensors = {name: np.zeros(shape, "f") for name, shape in zip(names, shapes, strict=True)}
    tensors[others.a.name], tensors[others.b.name] = (
        np.eye(4, 12, dtype="f"),
        np.eye(16, 4, dtype="f"),
    )
    save_file(tensors, file)
    _, page, _ = squeeze(adapter)
    assert f"modules: 2 layers, 1 of them all zero, which the table leaves out: {V}" in page


def test_json_tells_the_analysis_when_nothing_can_be_written(squeeze, adapter, tmp_path):
    (tmp_path / "file").write_text("")
    output = tmp_path / "file" / "small"
    code, page, errors = squeeze(adapter, "--json", "--output-path", output)
    assert (code, json.loads(page)["recommended_rank"]) == (1, 4)
    assert json.loads(page)["output"] is None
    assert errors.startswith(f"error: output_path `{output}` cannot be written")


def test_a_rank_above_the_adapters_is_reported_before_the_analysis(squeeze, adapter, tmp_path):
    file = adapter / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-4] + np.float32(np.nan).tobytes())
    _, _, errors = squeeze(adapter, "--compress-to", 5, "--output-path", tmp_path / "small")
    assert errors.startswith("error: compress_to is `5`, but the rank of")
    assert squeeze(adapter)[2].endswith("use an earlier checkpoint of the adapter\n")


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--compress-to", "5", "--output-path", "small"], "compress_to is `5`, but the rank of"),
        (["--target-ranks", "9"], "target_ranks has `9`, but the rank of"),
        (["--source-rank", "8"], "source_rank is `8`, but the rank of"),
        (["--min-variance-retention", "0"], "--min-variance-retention is `0`; it must be a number"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(squeeze, adapter, flags, line):
    code, page, errors = squeeze(adapter, "--json", *flags)
    assert (code, page) == (2, "")
    assert errors.startswith(f"error: {line}")
    assert errors.count("\n") == 1


def test_the_directory_of_a_run_leads_to_its_adapter(squeeze, adapter):
    code, _, errors = squeeze(adapter.parent)
    assert code == 2
    assert errors.endswith(f"which is not an adapter; did you mean {adapter}?\n")


def test_settings_from_python_are_checked(adapter):
    with pytest.raises(SqueezeConfigError) as told:
        run_squeeze(SqueezeSettings(str(adapter), min_variance_retention=2, compress_to=1))
    assert told.value.problems == (
        "min_variance_retention is `2`; it must be a number > 0 and <= 1",
        "compress_to is `1`, but output_path is not set; set it to a directory, or omit "
        "compress_to",
    )


def test_help_loads_nothing_heavy():
    program = """
import atexit, sys
heavy = {"torch", "numpy", "matplotlib", "wandb", "tinker", "httpx"}
atexit.register(lambda: print(sorted(heavy & set(sys.modules))))
import runpy
sys.argv = ["retrain_squeeze", "--help"]
runpy.run_module("retrain_squeeze", run_name="__main__")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert "python -m retrain_squeeze DIR --output-path small" in done.stdout
