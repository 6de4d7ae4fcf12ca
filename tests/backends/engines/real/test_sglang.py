"""Runs whose completions come from SGLang, compared with the trainer."""

import numpy as np
import pytest

from retrain_backends.errors import RunError
from retrain_backends.testing.case import flat_logprobs, flat_tokens

from ..test_sampler import trained, trainers

pytestmark = pytest.mark.slow


@pytest.fixture
def policy(backend, sglang_url):
    return backend(**{"inference.engine": "sglang", "inference.url": sglang_url})


def test_log_probs_are_those_of_teacher_forcing_for_every_adapter(policy, case):
    """The prompts are the same each time, so their prefix is in SGLang's radix cache."""
    before = trained(policy, case)
    for _ in range(2):
        groups = trained(policy, case)
        moved = np.abs(trainers(policy, case, groups) - flat_logprobs(groups)).mean()
        assert moved > 0.01
    after = case.sample(policy)
    assert flat_logprobs(after) == pytest.approx(trainers(policy, case, after), abs=1e-4)
    assert flat_tokens(before) != flat_tokens(after)
    assert all(len(group) == case.sampling.group_size for group in after)


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
