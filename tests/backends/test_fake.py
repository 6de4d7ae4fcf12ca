import numpy as np
import pytest

from retrain_backends.config import load_config
from retrain_backends.errors import ConfigError
from retrain_backends.fake import FakeBackend, FakeOptions, FakeTraining
from retrain_backends.testing import GroupSampling
from retrain_backends.types import SamplingParams, TrainBatch
from retrain_core import LossOptions

PROMPT = np.array([3, 1, 4])


def sample(backend, group_size=400, max_tokens=2, stop_token_ids=()):
    """The group of one prompt."""
    params = SamplingParams(1.0, stop_token_ids)
    return GroupSampling(1, group_size, max_tokens, params).sample(backend, [PROMPT])[0]


def make(lr: float = 0.1, **bounds: float) -> FakeBackend:
    training = FakeTraining(lr=lr, bounds=LossOptions(**bounds))
    return FakeBackend(FakeOptions(vocab_size=5, positions=2, buckets=3), training, seed=2)


def batch_of(completion, advantage: float = 1.0) -> TrainBatch:
    length = len(completion.tokens_T)
    return TrainBatch(
        prompts=[PROMPT],
        group_offsets_g=np.array([0, 1]),
        token_offsets_n=np.array([0, length]),
        tokens_t=completion.tokens_T,
        logprobs_t=completion.logprobs_T,
        advantages_t=np.full(length, advantage),
        trained_t=np.ones(length, dtype=np.bool_),
        temperature=1.0,
        step=0,
        seed=1,
    )


def test_samples_follow_the_logprobs():
    group = sample(make())
    firsts = np.array([completion.tokens_T[0] for completion in group])
    probs = {int(c.tokens_T[0]): float(np.exp(c.logprobs_T[0])) for c in group}
    for token, prob in probs.items():
        assert np.mean(firsts == token) == pytest.approx(prob, abs=0.08)


def test_training_raises_what_was_praised_and_lowers_what_was_blamed():
    for advantage, sign in ((1.0, 1), (-1.0, -1)):
        backend = make()
        [before] = sample(backend, 1)
        for _ in range(3):
            backend.train(batch_of(before, advantage))
        after = backend.train(batch_of(before, advantage))
        assert sign * (1 - after.ratio_max) < 0


def test_step_reports_the_loss_before_the_step():
    backend = make()
    [completion] = sample(backend, 1, 1)
    first, second = (backend.train(batch_of(completion)) for _ in range(2))
    assert first.loss == pytest.approx(-1.0)
    assert second.loss == pytest.approx(-second.ratio_max)
    assert second.ratio_max == pytest.approx(np.exp(second.mean_abs_logprob_diff))


def test_clipping_stops_the_policy():
    free, clipped = make(), make(clip_eps=0.1)
    [completion] = sample(free, 1)
    for _ in range(10):
        unbounded = free.train(batch_of(completion))
        bounded = clipped.train(batch_of(completion))
    assert bounded.clip_fraction == 1.0
    assert bounded.ratio_max < unbounded.ratio_max


def test_stop_token_ends_a_completion_and_belongs_to_it():
    backend = FakeBackend(FakeOptions(vocab_size=2), FakeTraining(lr=0.1), seed=2)
    for completion in sample(backend, 50, 6, stop_token_ids=(1,)):
        assert (completion.tokens_T[-1] == 1) == (completion.stop_reason == "stop")
        assert not (completion.tokens_T[:-1] == 1).any()


def test_made_from_the_configuration():
    overrides = {"backend.options": {"vocab_size": 7}, "training.seed": 3}
    backend = FakeBackend.from_config(load_config(None, overrides).policy())
    group = sample(backend)
    assert {int(token) for c in group for token in c.tokens_T} <= set(range(7))


def test_wrong_options_are_told_at_once():
    with pytest.raises(ConfigError) as caught:
        FakeBackend.from_config(
            load_config(None, {"backend.options": {"vocab_size": 1, "depth": 3}}).policy()
        )
    assert len(caught.value.problems) == 2
    assert all("[backend.options]" in problem for problem in caught.value.problems)
