import pytest

from retrain_backends.config import load_config
from retrain_backends.errors import ConfigError
from retrain_backends.local.vllm_plan import plan_of

from ..engines.conftest import QUICKSTART


@pytest.fixture
def settings():
    """`settings(**overrides)`: of a policy of the quickstart, on the CPU."""

    def build(**overrides):
        chosen = {"inference.engine": "vllm", "backend.devices": "cpu", "training.max_tokens": 24}
        return load_config(QUICKSTART, chosen | overrides).policy(longest_prompt=20)

    return build


def test_the_plan_on_a_cpu(settings):
    plan = plan_of(settings())
    assert not plan.sleeps
    assert plan.arguments["dtype"] == "float32"
    assert plan.arguments["max_model_len"] == 2 * 20 + 24
    assert plan.arguments["enable_chunked_prefill"] is False
    completions = settings().completions_a_step
    assert plan.arguments["kv_cache_memory_bytes"] == int(1.25 * completions * 64 * 512 * 4)
    assert plan.text.startswith("vLLM in this process, with a key-value cache of ")


def test_the_context_of_the_model_is_the_longest_text(settings):
    plan = plan_of(settings(**{"training.max_tokens": 5000}))
    assert plan.arguments["max_model_len"] == 4096


def test_what_is_chosen_goes_to_vllm(settings):
    chosen = {"inference.dtype": "bf16", "inference.prefix_caching": False, "model.lora_rank": 9}
    arguments = plan_of(settings(**chosen)).arguments
    assert arguments["dtype"] == "bfloat16"
    assert arguments["enable_prefix_caching"] is False
    assert arguments["max_lora_rank"] == 16


def test_a_rank_that_vllm_does_not_take(settings):
    with pytest.raises(ConfigError, match=r"^model\.lora_rank: `513` is above what vLLM takes"):
        plan_of(settings(**{"model.lora_rank": 513}))
