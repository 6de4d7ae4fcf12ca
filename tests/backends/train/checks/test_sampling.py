from pathlib import Path

import pytest

pytest.importorskip("torch")

from retrain_backends.config import load_config
from retrain_backends.train.checks.explain import explain

QUICKSTART = Path(__file__).parents[4] / "examples" / "quickstart.toml"


def explained(**inference):
    """The rows of the backend by label, and the problems."""
    settings = {f"inference.{key}": value for key, value in inference.items()}
    found = explain(load_config(QUICKSTART, settings))
    return dict(found.chapters[1].rows), found.problems


def test_what_the_process_that_trains_samples_with():
    rows, problems = explained()
    assert rows["weights"] == "float32, also in training"
    assert rows["attention kernel"].startswith("`scaled_dot_product_attention` of PyTorch")
    assert rows["key-value cache"] == "in the format of the activations"
    assert problems == ()


def test_other_settings():
    rows, problems = explained(dtype="bf16", kv_cache_dtype="bf16")
    assert rows["weights"] == "bfloat16, also in training"
    assert rows["key-value cache"] == "bfloat16, converted when it is read"
    assert problems == ()


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"attention_kernel": "tk"}, "inference.attention_kernel: `tk`, but no ThunderKittens"),
        ({"attention_kernel": "cutlass"}, "inference.attention_kernel: `cutlass` needs an NVIDIA"),
        ({"engine": "vllm", "dtype": "fp8"}, "inference.dtype: `vllm` has no `fp8` on a CPU; use"),
    ],
)
def test_what_cannot_work(settings, line):
    _, problems = explained(url="http://localhost:1", **settings)
    assert [problem[: len(line)] for problem in problems] == [line]


def test_the_commands_of_servers():
    rows, _ = explained(engine="vllm", url=["http://localhost:8001"], kv_cache_dtype="fp8")
    assert " --port 8001 " in rows["started with"]
    assert " --dtype float32 --kv-cache-dtype fp8" in rows["started with"]
