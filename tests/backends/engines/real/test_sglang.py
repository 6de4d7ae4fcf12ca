"""Runs whose completions come from SGLang, compared with the trainer."""

import pytest

from retrain_backends.errors import RunError
from retrain_backends.testing.case import flat_logprobs

from ..test_sampler import assert_every_adapter_is_used, trainers

pytestmark = pytest.mark.slow


@pytest.fixture
def policy(backend, sglang_url):
    return backend(**{"inference.engine": "sglang", "inference.url": sglang_url})


def test_log_probs_are_those_of_teacher_forcing_for_every_adapter(policy, case):
    assert_every_adapter_is_used(policy, case)


def test_prompts_as_texts(backend, case, sglang_url):
    by_text = backend(
        **{
            "inference.engine": "sglang",
            "inference.url": sglang_url,
            "inference.prompts": "text",
        }
    )
    groups = case.sample(by_text)
    assert flat_logprobs(groups) == pytest.approx(trainers(by_text, case, groups), abs=1e-4)


def test_the_checksums_of_its_base_weights(policy, case):
    weights = policy.sampler._engine._servers._weights
    case.sample(policy)
    assert any("embed_tokens" in name for name in weights.checksums)


def test_a_rank_that_the_server_does_not_take(backend, case, sglang_url):
    settings = {"inference.engine": "sglang", "inference.url": sglang_url, "model.lora_rank": 16}
    with pytest.raises(RunError, match="the server must be started with --enable-lora, --max-lora"):
        case.sample(backend(**settings))
