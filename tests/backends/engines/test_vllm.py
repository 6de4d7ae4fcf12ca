import pytest

from retrain_backends.config import InferenceConfig
from retrain_backends.engines.vllm import check_release, engine_arguments
from retrain_backends.errors import ConfigError


def test_the_arguments_of_the_engine():
    arguments = engine_arguments(4, InferenceConfig(engine="vllm"), on_cpu=False)
    assert arguments == {
        "max_lora_rank": 8,
        "max_loras": 2,
        "logprobs_mode": "processed_logprobs",
        "enable_lora": True,
    }


@pytest.mark.parametrize(("release", "warned"), [((0, 32, 0), 0), ((0, 33, 1), 0), ((0, 34, 0), 1)])
def test_a_release_that_was_not_tried(release, warned, caplog):
    check_release(release)
    assert len(caplog.records) == warned
    assert caplog.text.count("vLLM 0.34.0 has not been tried; 0.32 to 0.33 were") == warned


@pytest.mark.parametrize(
    ("release", "name"), [((0, 31, 2), r"0\.31\.2"), ((0, 0, "dev"), r"0\.0\.dev")]
)
def test_a_release_that_is_too_old(release, name):
    line = rf"^inference\.engine: `vllm` .* needs vLLM 0\.32 or newer, and {name} is installed: pip"
    with pytest.raises(ConfigError, match=line):
        check_release(release)
