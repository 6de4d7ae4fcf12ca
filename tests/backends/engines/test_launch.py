import pytest

from retrain_backends.config import InferenceConfig
from retrain_backends.engines.launch import server_commands
from retrain_backends.errors import ConfigError


def commands(engine, url=(), *, rank=32, on_cpu=False, **inference):
    served = InferenceConfig(engine=engine, url=url, **inference)
    return [str(command) for command in server_commands("a/b", rank, served, on_cpu=on_cpu)]


def test_one_command_for_each_address():
    first, second = commands("vllm", ("http://localhost:8000", "http://localhost:8001"))
    assert first == (
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 vllm serve a/b --port 8000 --max-lora-rank 32"
        " --max-loras 2 --logprobs-mode processed_logprobs --enable-lora"
    )
    assert second == first.replace("8000", "8001")


@pytest.mark.parametrize(("rank", "served"), [(1, 1), (2, 8), (33, 64), (512, 512)])
def test_a_rank_that_vllm_takes(rank, served):
    assert f"--max-lora-rank {served} " in commands("vllm", rank=rank)[0]


def test_what_differs_on_a_cpu_and_without_a_prefix_cache():
    [line] = commands("vllm", on_cpu=True, prefix_caching=False)
    for words in ("--port 8000", "--dtype float32", "--enforce-eager", "--no-enable-prefix-cach"):
        assert words in line
    [line] = commands("sglang", on_cpu=True, prefix_caching=False)
    assert line.startswith("python -m sglang.launch_server --model-path a/b --port 8000 ")
    assert line.endswith("--device cpu --dtype float32 --enable-lora --disable-radix-cache")


@pytest.mark.parametrize(
    ("engine", "rank", "line"),
    [
        ("pytorch", 4, "inference.engine: `pytorch` has no server that this command can start"),
        ("vllm", 513, "model.lora_rank: `513` is above what vLLM takes, 512"),
    ],
)
def test_what_has_no_command(engine, rank, line):
    with pytest.raises(ConfigError, match=line):
        commands(engine, rank=rank)
