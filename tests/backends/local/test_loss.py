import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retrain_backends.local import loss as loss_module
from retrain_backends.local.head import Head
from retrain_backends.local.loss import TrainedTokens, head_logprobs, head_loss
from retrain_core import LossOptions, policy_loss, policy_loss_from_logits

BOUNDS = [
    LossOptions(),
    LossOptions(temperature=0.7),
    LossOptions(clip_eps=0.2),
    LossOptions(clip_eps=0.2, clip_eps_high=0.28, temperature=1.3),
    LossOptions(importance_cap=1.1),
]


def identity(size):
    """A head whose logits are the hidden states."""
    layer = torch.nn.Linear(size, size, bias=False)
    torch.nn.init.eye_(layer.weight)
    return layer.requires_grad_(False)


def run(logits, targets, old, advantages, options):
    hidden = torch.tensor(logits, dtype=torch.float32, requires_grad=True)
    loss, new = head_loss(
        hidden,
        Head(identity(logits.shape[1])),
        TrainedTokens(
            targets=torch.tensor(targets),
            logprobs=torch.tensor(old, dtype=torch.float32),
            advantages=torch.tensor(advantages, dtype=torch.float32),
            num_tokens=len(targets),
            options=options,
        ),
    )
    loss.backward()
    assert hidden.grad is not None
    return float(loss.detach()), new.numpy(), hidden.grad.numpy()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), bounds=st.sampled_from(BOUNDS), count=st.integers(1, 40))
def test_torch_loss_is_the_numpy_loss(seed, bounds, count):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (count, 7))
    targets = rng.integers(0, 7, count)
    old, advantages = rng.normal(-2, 1, count), rng.normal(size=count)
    loss, new, gradient = run(logits, targets, old, advantages, bounds)

    # The oracle takes rows of tokens: each position is a row whose second token is the target.
    rows = np.stack([np.zeros(count, dtype=np.int64), targets], axis=1)
    expected = policy_loss_from_logits(
        np.stack([logits, np.zeros_like(logits)], axis=1),
        rows,
        np.stack([np.zeros(count), old], axis=1),
        np.stack([np.zeros(count), advantages], axis=1),
        np.stack([np.zeros(count), np.ones(count)], axis=1).astype(bool),
        bounds,
    )
    assert loss == pytest.approx(expected.loss, abs=1e-5, rel=1e-5)
    np.testing.assert_allclose(gradient, expected.gradient[:, 0], atol=1e-5, rtol=1e-4)
    by_token = policy_loss(new, old, advantages, np.ones(count, dtype=bool), bounds)
    assert by_token.loss == pytest.approx(loss, abs=1e-5, rel=1e-5)


def test_chunks_change_nothing():
    rng = np.random.default_rng(0)
    vocabulary = 50_000
    count = 3 * (loss_module.CHUNK_LOGITS // vocabulary) + 5
    hidden = torch.tensor(rng.normal(size=(count, 4)), dtype=torch.float32, requires_grad=True)
    head = Head(torch.nn.Linear(4, vocabulary).requires_grad_(False))
    targets = torch.tensor(rng.integers(0, vocabulary, count))
    tokens = TrainedTokens(
        targets=targets,
        logprobs=torch.full((count,), -10.0),
        advantages=torch.ones(count),
        num_tokens=count,
        options=LossOptions(),
    )
    _, new = head_loss(hidden, head, tokens)
    some = torch.arange(0, count, 97)
    expected = head.logits(hidden[some]).log_softmax(-1).gather(-1, targets[some, None])[:, 0]
    torch.testing.assert_close(new[some], expected.detach(), atol=1e-5, rtol=1e-5)
    scored = head_logprobs(hidden, head, targets, 1.0)
    assert not scored.requires_grad
    torch.testing.assert_close(scored, new, atol=0, rtol=0)


@pytest.mark.parametrize(("scale", "softcap"), [(0.3, None), (1.0, 2.0), (0.3, 2.0)])
def test_the_gradient_passes_through_what_follows_the_head(scale, softcap):
    torch.manual_seed(0)
    head = Head(identity(7), scale, softcap)
    hidden = torch.randn(5, 7, requires_grad=True)
    targets, advantages = torch.arange(5), torch.randn(5)
    tokens = TrainedTokens(targets, torch.full((5,), -2.0), advantages, 5, LossOptions())
    head_loss(hidden, head, tokens)[0].backward()
    found, hidden.grad = hidden.grad, None
    new = head.logits(hidden).log_softmax(-1).gather(-1, targets[:, None])[:, 0]
    (-(torch.exp(new + 2.0) * advantages).sum() / 5).backward()
    torch.testing.assert_close(found, hidden.grad)
