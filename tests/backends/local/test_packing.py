from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel
from transformers import AutoModelForCausalLM

from retrain_backends.local.packing import pack, plan
from retrain_backends.types import TrainBatch
from retrain_core import LossOptions, policy_loss


def reference_logprobs(model, batch):
    """Each row on its own through the plain model: log-probs of its completion's tokens."""
    group_of = np.repeat(np.arange(len(batch.prompts)), np.diff(batch.group_offsets_g))
    parts = []
    for row, group in enumerate(group_of):
        start, end = batch.token_offsets_n[row : row + 2]
        prompt, tokens = batch.prompts[group], torch.tensor(batch.tokens_t[start:end])
        text = torch.cat([torch.tensor(prompt), tokens])[None]
        logits = model(text).logits[0, len(prompt) - 1 : -1] / batch.temperature
        parts.append(logits.log_softmax(-1).gather(-1, tokens[:, None])[:, 0])
    return torch.cat(parts)


def peft_model(path, directory, adapter):
    adapter.export(directory, path)
    return PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(path), str(directory), is_trainable=True
    )


def reference_backward(path, directory, adapter, batch):
    """Plain PEFT with the numpy loss: the model with its gradients, and the figures."""
    model = peft_model(path, directory, adapter)
    new = reference_logprobs(model, batch)
    figures = policy_loss(
        new.detach().double().numpy(), batch.logprobs_t, batch.advantages_t, batch.trained_t
    )
    new.backward(torch.tensor(figures.gradient, dtype=torch.float32))
    return model, figures


@pytest.mark.parametrize("budget", [1, 20, 4096])
def test_step_is_that_of_plain_peft(model_path, policy, trainer, random_batch, tmp_path, budget):
    """Log-probs, loss, every gradient and the updated weights, for any split into micro-batches."""
    parts = policy(model_path)
    model, figures = reference_backward(model_path, tmp_path, parts.adapter, random_batch)
    weights = [p for p in model.parameters() if p.requires_grad]
    norm = torch.cat([p.grad.flatten() for p in weights]).norm()
    torch.optim.AdamW(weights, lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0).step()

    result = trainer(parts, microbatch_tokens=budget).train(random_batch)
    assert result.loss == pytest.approx(figures.loss, abs=1e-5)
    assert result.grad_norm == pytest.approx(float(norm), rel=1e-4)
    assert result.mean_abs_logprob_diff == pytest.approx(figures.mean_abs_logprob_diff, rel=1e-4)
    assert result.kl_k3 == pytest.approx(figures.kl_k3, rel=1e-3)
    expected = {
        name.replace(".default", ""): tensor
        for name, tensor in model.state_dict().items()
        if "lora_" in name
    }
    for name, tensor in parts.adapter.state().items():
        # Adam divides by the gradient's size, so tiny gradients amplify rounding.
        torch.testing.assert_close(tensor, expected[name], atol=5e-4, rtol=1e-3)


def test_gradients_of_every_factor(model_path, policy, trainer, random_batch, tmp_path):
    parts = policy(model_path)
    model, _ = reference_backward(model_path, tmp_path, parts.adapter, random_batch)
    expected = {
        name.replace(".default", ""): p.grad
        for name, p in model.named_parameters()
        if p.requires_grad
    }
    trainer(parts, lr=0.0).train(random_batch)
    parts.adapter.weights.copy_(parts.adapter.gradient)  # names the gradients
    for name, gradient in parts.adapter.state().items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_gradient_depends_on_the_split_with_dropout_only(
    qwen3, policy, trainer, random_batch, dropout
):
    whole, split = policy(qwen3, dropout=dropout), policy(qwen3, dropout=dropout)
    trainer(whole).train(random_batch)
    trainer(split, microbatch_tokens=20).train(random_batch)
    distance = (split.adapter.gradient - whole.adapter.gradient).norm()
    relative = float(distance / whole.adapter.gradient.norm())
    assert relative > 0.1 if dropout else relative < 1e-5


def on_policy(parts, batch):
    """The batch as sampled by this policy: with its own log-probs."""
    group_of = np.repeat(np.arange(len(batch.prompts)), np.diff(batch.group_offsets_g))
    with torch.no_grad():
        prompts = [batch.prompts[group] for group in group_of]
        completions = np.split(batch.tokens_t, batch.token_offsets_n[1:-1])
        logprobs = parts.score(prompts, completions, batch.temperature)
    return replace(batch, logprobs_t=np.concatenate(logprobs))


def test_clipping_has_no_effect_on_the_only_step_of_a_batch(qwen3, policy, trainer, random_batch):
    plain, clipped = policy(qwen3), policy(qwen3)
    batch = on_policy(trainer(policy(qwen3)), random_batch)
    trainer(plain).train(batch)
    result = trainer(clipped, bounds=LossOptions(clip_eps=1e-3)).train(batch)
    assert (result.clip_fraction, result.grad_norm > 0) == (0, True)
    assert torch.equal(clipped.adapter.weights, plain.adapter.weights)


def make_batch(prompts, groups):
    """A batch whose groups have completions of these lengths; its tokens count up."""
    lengths = np.array([length for group in groups for length in group])
    total = int(lengths.sum())
    return TrainBatch(
        prompts=prompts,
        group_offsets_g=np.cumsum([0, *map(len, groups)]),
        token_offsets_n=np.concatenate([[0], np.cumsum(lengths)]),
        tokens_t=np.arange(total),
        logprobs_t=np.zeros(total),
        advantages_t=np.zeros(total),
        trained_t=np.ones(total, dtype=bool),
        temperature=1.0,
        step=0,
        seed=0,
    )


def packed(batch, budget):
    return [
        pack(batch, rows, LossOptions(), 1, torch.device("cpu")) for rows in plan(batch, budget)
    ]


@pytest.mark.parametrize(
    ("budget", "tokens"),
    [
        (100, [29]),  # prompts of 10 and 5 tokens, completions of 2 * (3 - 1) and 5 * (3 - 1)
        (20, [14, 15]),
        (14, [14, 13, 7]),
    ],
)
def test_completions_share_the_prompt_of_their_group(budget, tokens):
    batch = make_batch([np.arange(10), np.arange(5)], [[3, 3], [3, 3, 3, 3, 3]])
    assert [micro.tokens.shape[1] for micro in packed(batch, budget)] == tokens


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_micro_batches_hold_every_trained_token_once(data):
    groups = data.draw(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=5), min_size=1))
    budget = data.draw(st.integers(1, 60))
    batch = make_batch([np.arange(1 + i % 4) for i in range(len(groups))], groups)
    total = len(batch.tokens_t)
    micros = packed(batch, budget)
    seen = np.sort(np.concatenate([[], *(micro.source for micro in micros)]))
    assert seen.tolist() == list(range(total))
    for micro, rows in zip(micros, plan(batch, budget), strict=True):
        assert micro.tokens.shape[1] <= budget or len(rows) == 1
        assert micro.trained.targets.tolist() == micro.source.tolist()
