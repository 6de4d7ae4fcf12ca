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


@pytest.mark.parametrize(
    ("engine", "settings", "flags"),
    [
        ("vllm", {"attention_kernel": "flash"}, "--attention-backend FLASH_ATTN"),
        ("vllm", {"attention_kernel": "triton"}, "--attention-backend TRITON_ATTN"),
        ("vllm", {"dtype": "bf16"}, "--dtype bfloat16"),
        ("vllm", {"dtype": "fp8"}, "--quantization fp8_per_channel"),
        ("vllm", {"dtype": "fp4"}, "--quantization mxfp4"),
        (
            "vllm",
            {"attention_kernel": "triton", "dtype": "bf16", "kv_cache_dtype": "int8"},
            "--attention-backend TRITON_ATTN --dtype bfloat16 --kv-cache-dtype int8_per_token_head",
        ),
        ("sglang", {"attention_kernel": "flash"}, "--attention-backend fa3"),
        (
            "sglang",
            {"dtype": "fp8", "kv_cache_dtype": "fp8"},
            "--quantization fp8 --kv-cache-dtype fp8_e4m3",
        ),
    ],
)
def test_flags_of_kernels_and_precision(engine, settings, flags):
    assert f" {flags}" in commands(engine, **settings)[0]


def test_flags_on_a_cpu():
    [line] = commands("vllm", on_cpu=True, dtype="bf16", kv_cache_dtype="fp8")
    assert "--dtype bfloat16 --kv-cache-dtype fp8" in line
    assert "float32" not in line


@pytest.mark.parametrize(
    ("engine", "on_cpu", "settings", "line"),
    [
        (
            "vllm",
            False,
            {"attention_kernel": "cutlass"},
            "inference.attention_kernel: `vllm` has no `cutlass`; use `default` or `flash` or `tr",
        ),
        ("vllm", True, {"attention_kernel": "flash"}, "`flash` on a CPU; use `default`$"),
        ("vllm", True, {"dtype": "fp4"}, "inference.dtype: `vllm` has no `fp4` on a CPU; use"),
        (
            "vllm",
            False,
            {"attention_kernel": "flash", "kv_cache_dtype": "int8"},
            "inference.kv_cache_dtype: `int8` is read by vLLM's attention kernel `triton` only",
        ),
        ("sglang", False, {"dtype": "fp4"}, "`sglang` has no `fp4`; use `auto` or `bf16` or `fp8`"),
        ("sglang", False, {"kv_cache_dtype": "int8"}, "`sglang` has no `int8`; use `auto` or `bf"),
    ],
)
def test_what_a_server_does_not_have(engine, on_cpu, settings, line):
    with pytest.raises(ConfigError, match=line):
        commands(engine, on_cpu=on_cpu, **settings)


def test_an_address_without_a_port_that_can_be():
    with pytest.raises(
        ConfigError, match=r"inference.url: `http://localhost:1,http://localhost:2` has no"
    ):
        commands("vllm", ["http://localhost:1,http://localhost:2"])
