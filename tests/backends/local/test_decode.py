from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from transformers import AutoModelForCausalLM

from retrain_backends.local.base_model import BaseModel
from retrain_backends.local.cache import GroupCache
from retrain_backends.local.decode import sample_groups
from retrain_backends.randomness import Purpose, stream
from retrain_backends.testing import GroupSampling
from retrain_backends.types import SamplingParams

STEP = 2


def groups_of(base, prompts, sampling, **options):
    """The groups of all prompts, in order."""
    requests = sampling.requests(prompts, Purpose.SAMPLE, STEP)
    found = dict(sample_groups(base, requests, sampling.params, **options))
    return [found[index] for index in range(len(prompts))]


def with_params(sampling, **changes):
    return replace(sampling, params=replace(sampling.params, **changes))


def tokens_of(groups):
    return [row.tokens_T.tolist() for group in groups for row in group]


def teacher_forced(base, prompt, completion, temperature):
    """Log-softmax at every token of the completion, from the plain model run on the whole text."""
    model = AutoModelForCausalLM.from_pretrained(base.name)
    text = torch.tensor(np.concatenate([prompt, completion.tokens_T]))[None]
    with torch.no_grad():
        logits = model(text).logits[0, len(prompt) - 1 : -1]
    return (logits / temperature).log_softmax(-1).double().numpy()


def test_logprobs_and_entropy_are_those_of_the_model(model_path, policy, prompts, sampling):
    base = policy(model_path, active=False).base
    groups = groups_of(base, prompts, with_params(sampling, entropy=True))
    for prompt, group in zip(prompts, groups, strict=True):
        for row in group:
            expected = teacher_forced(base, prompt, row, sampling.params.temperature)
            chosen = np.take_along_axis(expected, row.tokens_T[:, None], axis=1)[:, 0]
            np.testing.assert_allclose(row.logprobs_T, chosen, atol=2e-5)
            entropy = -(np.exp(expected) * expected).sum(-1)
            np.testing.assert_allclose(row.entropy_T, entropy, atol=2e-5)


def test_tokens_are_the_inverse_cdf_of_their_stream(qwen3, policy, prompts, sampling):
    base = policy(qwen3, active=False).base
    groups = groups_of(base, prompts, sampling)
    for i, (prompt, group) in enumerate(zip(prompts, groups, strict=True)):
        for j, row in enumerate(group):
            cdf = np.exp(teacher_forced(base, prompt, row, sampling.params.temperature)).cumsum(-1)
            uniforms = stream(sampling.seed, Purpose.SAMPLE, STEP, i, j).random(10)
            points = uniforms[: len(cdf)] * cdf[:, -1]
            drawn = [np.searchsorted(c, p, side="right") for c, p in zip(cdf, points, strict=True)]
            assert row.tokens_T.tolist() == drawn


def test_one_token_has_the_models_distribution(qwen3, policy, prompts, sampling):
    base = policy(qwen3).base
    many = replace(with_params(sampling, stop_token_ids=()), group_size=4000, max_tokens=1)
    (group,) = groups_of(base, prompts[:1], many)
    counts = np.bincount([row.tokens_T[0] for row in group], minlength=61)
    logprob_of = {int(row.tokens_T[0]): row.logprobs_T[0] for row in group}
    common = [token for token in logprob_of if counts[token] >= 20]
    expected = np.array([np.exp(logprob_of[token]) for token in common])
    rest = 4000 - counts[common].sum(), 1 - expected.sum()
    result = chisquare([*counts[common], rest[0]], 4000 * np.array([*expected, rest[1]]))
    assert result.pvalue > 1e-3


def test_greedy_decoding_is_that_of_transformers(qwen3, policy, prompts, sampling):
    base = policy(qwen3, active=False).base
    greedy = replace(with_params(sampling, temperature=0.0, stop_token_ids=()), group_size=1)
    groups = groups_of(base, prompts, greedy)
    model = AutoModelForCausalLM.from_pretrained(qwen3)
    for prompt, (row,) in zip(prompts, groups, strict=True):
        text = torch.tensor(prompt)[None]
        out = model.generate(
            text,
            attention_mask=torch.ones_like(text),
            max_new_tokens=10,
            do_sample=False,
            eos_token_id=[],
            pad_token_id=0,
        )
        assert row.tokens_T.tolist() == out[0, len(prompt) :].tolist()


@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_dropping_finished_rows_changes_nothing(session_base, data):
    """Whatever ends a completion early, its tokens are the beginning of the unstopped ones."""
    base, prompts, sampling = session_base
    stop = data.draw(st.sets(st.integers(0, 60), max_size=12))
    free = groups_of(base, prompts, with_params(sampling, stop_token_ids=()))
    stopped = groups_of(base, prompts, with_params(sampling, stop_token_ids=tuple(stop)))
    for whole, part in zip(tokens_of(free), tokens_of(stopped), strict=True):
        ends = [place for place, token in enumerate(whole) if token in stop]
        assert part == whole[: ends[0] + 1 if ends else None]


@pytest.fixture(scope="module")
def session_base(qwen3):
    base = BaseModel(qwen3, qwen3, torch.device("cpu"), torch.float32)
    prompts = [np.arange(2, 7), np.arange(9, 12)]
    sampling = GroupSampling(1, 6, 80, SamplingParams(temperature=1.0, stop_token_ids=()))
    return base, prompts, sampling


class Watched(BaseModel):
    """A model that notes the shape of each pass's tokens in `seen`."""

    def hidden(self, tokens, *arguments):
        self.seen.append(tuple(tokens.shape))
        return super().hidden(tokens, *arguments)


def test_a_group_is_yielded_when_it_ends_and_not_later(qwen3, policy, prompts, sampling):
    base = policy(qwen3, model=Watched).base
    base.seen = []
    longer = replace(with_params(sampling, stop_token_ids=tuple(range(0, 61, 6))), max_tokens=60)
    passes = {}
    for index, group in sample_groups(
        base, longer.requests(prompts, Purpose.SAMPLE, STEP), longer.params
    ):
        passes[index] = len(base.seen), max(len(row.tokens_T) for row in group)
    assert len(passes) == len(prompts)
    assert len(set(passes.values())) > 1, "the test needs groups of different lengths"
    assert all(seen == min(length, 60) for seen, length in passes.values())


def test_prompts_are_computed_once_and_finished_rows_no_longer(qwen3, policy, prompts, sampling):
    base = policy(qwen3, model=Watched).base
    base.seen = []
    longer = replace(with_params(sampling, stop_token_ids=tuple(range(0, 61, 6))), max_tokens=60)
    groups = groups_of(base, prompts[:2], longer)  # few rows, so each is dropped at once
    lengths = np.array([len(row.tokens_T) for group in groups for row in group])
    assert len(set(lengths)) > 2, "the test needs completions of different lengths"
    left = [(int((lengths > tokens).sum()), 1) for tokens in range(1, lengths.max())]
    assert base.seen == [(2, max(map(len, prompts[:2]))), *left]


def test_sharing_prompts_changes_nothing(qwen3, policy, prompts, sampling):
    base = policy(qwen3).base
    shared = groups_of(base, prompts, sampling)
    alone = groups_of(base, prompts, sampling, share_prompts=False)
    assert tokens_of(alone) == tokens_of(shared)


def test_cache_returns_everything_so_far():
    cache = GroupCache()
    chunks = [torch.randn(2, 3, length, 4) for length in (5, 1, 1, 90, 1)]
    for i, chunk in enumerate(chunks):
        keys, values = cache.update(chunk, -chunk, 0)
        expected = torch.cat(chunks[: i + 1], dim=2)
        assert torch.equal(keys, expected)
        assert torch.equal(values, -expected)
    cache.select_rows(torch.tensor([1, 1, 0]))
    keys, _ = cache.update(torch.zeros(3, 3, 1, 4), torch.zeros(3, 3, 1, 4), 0)
    assert torch.equal(keys[:, :, :-1], torch.cat(chunks, dim=2)[[1, 1, 0]])
