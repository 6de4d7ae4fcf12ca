import pytest

from retrain_backends.errors import ModelError
from retrain_backends.local.backend import LocalBackend

ALIBI = "it has ALiBi position biases"
STATE = "it has state-space, linear-attention or convolution layers"
OWN = "its attention cannot be exchanged"


@pytest.mark.parametrize(
    ("family", "architecture", "reason"),
    [
        ("BLOOM", "BloomForCausalLM", ALIBI),
        ("MPT", "MptForCausalLM", ALIBI),
        ("Falcon (ALiBi)", "FalconForCausalLM", ALIBI),
        ("Falcon (rotary)", "FalconForCausalLM", OWN),
        ("GPT-J", "GPTJForCausalLM", OWN),
        ("StableLM", "StableLmForCausalLM", OWN),
        ("Mamba", "MambaForCausalLM", STATE),
        ("Jamba", "JambaForCausalLM", STATE),
        ("Falcon-H1", "FalconH1ForCausalLM", STATE),
        ("Qwen3-Next", "Qwen3NextForCausalLM", STATE),
        ("LFM 2", "Lfm2ForCausalLM", STATE),
        ("Llama 4 (text)", "Llama4ForCausalLM", "it has layers of type chunked_attention"),
    ],
)
def test_an_architecture_that_is_not_exact_is_refused_by_name(
    family, architecture, reason, local_config, tiny_model
):
    with pytest.raises(ModelError) as caught:
        LocalBackend.from_config(local_config(model={"model": tiny_model(family)}))
    assert f"({architecture}) is not supported by the local backend: {reason}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
