"""The gradient of a step from parts, against the gradient of the whole batch."""

import logging
import threading
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrain_backends.local.packing import plan
from retrain_backends.types import TrainBatch
from retrain_core import LossOptions, offsets_from_lengths, policy_loss

from .test_backend import SmallMemory

# Nothing but the order of float32 sums, and the division by N, differs.
ROUNDING = 1e-5
FIGURES = ("loss", "grad_norm", "mean_abs_logprob_diff", "kl_k3", "ratio_p99", "ratio_max")


def part_of(batch, groups):
    """Some groups of a batch, in this order."""
    bounds = list(pairwise(batch.group_offsets_g))
    rows = np.concatenate([np.arange(*bounds[group]) for group in groups])
    lengths = np.diff(batch.token_offsets_n)
    tokens = np.concatenate(
        [np.arange(batch.token_offsets_n[row], batch.token_offsets_n[row + 1]) for row in rows]
    )
    flat = {
        name: value[tokens] for name, value in vars(batch).items() if name.endswith("_t") and value
        is not None
    }  # fmt: skip
    return replace(
        batch,
        prompts=[batch.prompts[group] for group in groups],
        group_offsets_g=offsets_from_lengths([np.ptp(bounds[group]) for group in groups]),
        token_offsets_n=offsets_from_lengths(lengths[rows]),
        **flat,
    )


def in_parts(trainer, batch, parts):
    step = trainer.accumulate()
    for groups in parts:
        step.add(part_of(batch, groups))
    return step.finish()


def gradient(trainer):
    return trainer.adapter.gradient.clone()


def assert_same_step(result, expected):
    for name in FIGURES:
        assert getattr(result, name) == pytest.approx(getattr(expected, name), rel=1e-4, abs=1e-6)
    assert (result.num_tokens, result.clip_fraction) == (
        expected.num_tokens,
        expected.clip_fraction,
    )


BOUNDS = {
    "none": LossOptions(),
    "clip": LossOptions(clip_eps=0.1, clip_eps_high=0.3),
    "cap": LossOptions(importance_cap=1.1),
}


@pytest.fixture
def batch(random_batch):
    """With different weights of the tokens."""
    weights = np.random.default_rng(2).random(len(random_batch.tokens_t))
    return replace(random_batch, weights_t=weights)


@pytest.mark.parametrize("bounds", BOUNDS)
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(order=st.permutations(range(3)), cut=st.integers(1, 3))
def test_parts_in_any_order_give_the_gradient_of_the_batch(
    qwen3, policy, trainer, batch, bounds, order, cut
):
    whole, parts = (trainer(policy(qwen3), bounds=BOUNDS[bounds]) for _ in range(2))
    expected = whole.train(batch)
    result = in_parts(parts, batch, filter(None, (order[:cut], order[cut:])))
    difference = (gradient(parts) - gradient(whole)).norm() / gradient(whole).norm()
    assert difference < ROUNDING
    assert_same_step(result, expected)
    assert parts.version == whole.version == 1


@pytest.mark.parametrize("bounds", BOUNDS)
def test_the_loss_of_parts_is_that_of_the_formula(qwen3, policy, trainer, batch, bounds):
    parts = trainer(policy(qwen3), bounds=BOUNDS[bounds])
    rows = np.split(batch.tokens_t, batch.token_offsets_n[1:-1])
    prompts = np.repeat(np.arange(3), np.diff(batch.group_offsets_g))
    new = parts.score([batch.prompts[i] for i in prompts], rows, batch.temperature)
    oracle = policy_loss(
        np.concatenate(new),
        batch.logprobs_t,
        batch.weighted_advantages_t,
        batch.trained_t,
        BOUNDS[bounds],
    )
    result = in_parts(parts, batch, [[2], [0], [1]])
    assert result.loss == pytest.approx(oracle.loss, rel=1e-5)
    assert result.clip_fraction == oracle.clip_fraction


def equal_groups(tokens) -> TrainBatch:
    """Four groups of two completions; `tokens` trained ones in total."""
    rng = np.random.default_rng(3)
    length = tokens // 8
    return TrainBatch(
        prompts=[rng.integers(2, 61, 6) for _ in range(4)],
        group_offsets_g=np.arange(5) * 2,
        token_offsets_n=np.arange(9) * length,
        tokens_t=rng.integers(2, 61, tokens),
        logprobs_t=rng.normal(-3, 0.5, tokens),
        advantages_t=rng.normal(size=tokens),
        trained_t=np.ones(tokens, np.bool_),
        temperature=1.0,
        step=0,
        seed=0,
    )


def test_the_same_micro_batches_give_the_same_bytes(qwen3, policy, trainer):
    """Division by N, the only difference then, is exact for a power of two."""
    batch = equal_groups(64)
    assert len(list(plan(batch, 20))) == 4
    whole, parts = (trainer(policy(qwen3), microbatch_tokens=20) for _ in range(2))
    expected = whole.train(batch)
    result = in_parts(parts, batch, [[0], [1, 2], [3]])
    assert torch.equal(parts.adapter.gradient, whole.adapter.gradient)
    assert torch.equal(parts.adapter.weights, whole.adapter.weights)
    assert [getattr(result, name) for name in FIGURES] == [
        getattr(expected, name) for name in FIGURES
    ]


def test_out_of_memory_in_a_part_adds_all_parts_again(qwen3, policy, trainer, batch, caplog):
    whole = trainer(policy(qwen3))
    expected = whole.train(batch)
    small = policy(qwen3, model=SmallMemory)
    parts = trainer(small)
    step = parts.accumulate()
    step.add(part_of(batch, [1]))
    small.base.limit = 20
    with caplog.at_level(logging.WARNING):
        step.add(part_of(batch, [0, 2]))
    assert "out of memory: micro-batches of" in caplog.text
    assert_same_step(step.finish(), expected)
    assert (gradient(parts) - gradient(whole)).norm() < ROUNDING * gradient(whole).norm()


def test_a_step_that_is_dropped_leaves_no_trace(qwen3, policy, trainer, batch, tmp_path):
    fresh, interrupted = (trainer(policy(qwen3)) for _ in range(2))
    for each in (fresh, interrupted):
        each.train(batch)
    saved = {}
    for name, each in (("fresh", fresh), ("interrupted", interrupted)):
        if each is interrupted:
            each.accumulate().add(part_of(batch, [2, 0]))
        directory = tmp_path / name
        directory.mkdir()
        each.save(directory)
        saved[name] = (directory / "state.safetensors").read_bytes()
    assert saved["fresh"] == saved["interrupted"]
    for each in (fresh, interrupted):
        each.train(batch)
    assert torch.equal(fresh.adapter.weights, interrupted.adapter.weights)
    assert fresh.version == interrupted.version


def test_a_part_that_is_not_finite_prevents_the_step(qwen3, policy, trainer, batch):
    broken = replace(batch, advantages_t=np.where(np.arange(31) < 4, np.nan, batch.advantages_t))
    parts = trainer(policy(qwen3))
    before = parts.adapter.weights.clone()
    result = in_parts(parts, broken, [[1, 2], [0]])
    assert not result.is_finite
    assert torch.equal(parts.adapter.weights, before)
    assert parts.version == 0


def test_completions_are_scored_in_another_thread_meanwhile(qwen3, policy, trainer, batch):
    whole, parts = (trainer(policy(qwen3)) for _ in range(2))
    whole.train(batch)
    prompts, rows = [batch.prompts[0]] * 40, [np.arange(2, 9)] * 40
    expected = np.concatenate(parts.score(prompts, rows, 1.0))
    scores = []
    scoring = threading.Thread(
        target=lambda: scores.extend(parts.score(prompts, rows, 1.0) for _ in range(5))
    )
    scoring.start()
    step = parts.accumulate()
    for group in (1, 0, 2):
        step.add(part_of(batch, [group]))
    scoring.join()
    step.finish()
    assert all(np.array_equal(np.concatenate(each), expected) for each in scores)
    assert (gradient(parts) - gradient(whole)).norm() < ROUNDING * gradient(whole).norm()
