import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from retrain_backends.config import read_backend_options
from retrain_backends.errors import ConfigError, ModelError, RunError
from retrain_backends.local.backend import LocalBackend
from retrain_backends.local.base_model import BaseModel
from retrain_backends.local.devices import parse_devices, pick_dtype
from retrain_backends.local.options import LocalOptions
from retrain_backends.local.sampler import PytorchSampler
from retrain_backends.testing import CHECKS, BackendCase


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("devices", ["cpu", "cpu,cpu"])
def test_local_backend_conforms(check, devices, local_config, tmp_path):
    config = local_config(backend={"devices": devices})
    check(BackendCase(make=lambda: LocalBackend.from_config(config), directory=tmp_path))


def run(config, case, steps=3):
    """Losses and tokens of a few steps."""
    backend = LocalBackend.from_config(config)
    seen = []
    for step in range(steps):
        groups = case.sample(backend, step=step)
        result = backend.trainer.train(replace(case.batch(groups), step=step))
        seen.append((result.loss, [row.tokens_T.tolist() for group in groups for row in group]))
    return seen, backend


def test_split_mode_is_the_same_run(local_config, tmp_path):
    case = BackendCase(make=lambda: None, directory=tmp_path)
    one, _ = run(local_config(), case)
    two, split = run(local_config(backend={"devices": "cpu,cpu"}), case)
    assert one == two
    assert split.sampler.base is not split.trainer.base


def test_dropout_is_seeded(local_config, tmp_path):
    case = BackendCase(make=lambda: None, directory=tmp_path)
    plain, _ = run(local_config(), case)
    config = local_config(lora={"dropout": 0.5})
    one, _ = run(config, case)
    assert one == run(config, case)[0]
    assert one[0][1] == plain[0][1], "sampling knows no dropout"
    assert one[1][0] != plain[1][0]


class SmallMemory(BaseModel):
    """A model that runs out of memory above `limit` tokens in one pass."""

    limit = 10**9

    def hidden(self, tokens, positions, layout, cache=None):
        if tokens.numel() > self.limit:
            raise torch.OutOfMemoryError("out of memory, says the test")
        return super().hidden(tokens, positions, layout, cache)


def small_memory(policy, trainer, path, limit):
    parts = policy(path, model=SmallMemory)
    parts.base.limit = limit
    sampler = PytorchSampler(parts.base, parts.adapter, parts.adapter, 1000)
    return LocalBackend(trainer(parts), sampler)


def test_out_of_memory_in_training_halves_the_budget(qwen3, policy, trainer, random_batch, caplog):
    expected = trainer(policy(qwen3)).train(random_batch)
    backend = small_memory(policy, trainer, qwen3, 20)
    with caplog.at_level(logging.WARNING):
        result = backend.trainer.train(random_batch)
    assert result.loss == pytest.approx(expected.loss, abs=1e-6)
    assert result.grad_norm == pytest.approx(expected.grad_norm, rel=1e-5)
    assert "out of memory: micro-batches of" in caplog.text
    assert backend.trainer.budget < 4096


def test_out_of_memory_in_sampling_takes_fewer_prompts(qwen3, policy, trainer, prompts, sampling):
    expected = sampling.sample(small_memory(policy, trainer, qwen3, 10**9).sampler, prompts)
    groups = sampling.sample(small_memory(policy, trainer, qwen3, 10).sampler, prompts)
    assert [row.tokens_T.tolist() for group in groups for row in group] == [
        row.tokens_T.tolist() for group in expected for row in group
    ]


class Counted(BaseModel):
    """A model that notes how many rows each pass has."""

    rows = ()

    def hidden(self, tokens, positions, layout, cache=None):
        self.rows = (*self.rows, len(tokens))
        return super().hidden(tokens, positions, layout, cache)


def test_no_more_completions_at_a_time_than_allowed(qwen3, policy, prompts, sampling):
    parts = policy(qwen3, model=Counted)
    sampler = PytorchSampler(parts.base, parts.adapter, parts.adapter, 6)
    groups = sampling.sample(sampler, prompts)
    assert [len(group) for group in groups] == [3, 3, 3]
    assert max(parts.base.rows) == 6


def test_out_of_memory_for_good_says_what_to_do(
    qwen3, policy, trainer, random_batch, prompts, sampling
):
    backend = small_memory(policy, trainer, qwen3, 0)
    with pytest.raises(RunError, match=r"lower training\.max_tokens"):
        backend.trainer.train(random_batch)
    with pytest.raises(RunError, match=r"lower training\.group_size"):
        sampling.sample(backend.sampler, prompts)


def test_checkpoint_continues_bit_for_bit(local_config, tmp_path):
    case = BackendCase(make=lambda: None, directory=tmp_path)
    _, backend = run(local_config(), case, steps=2)
    reference = backend.trainer.save(tmp_path)
    fresh = LocalBackend.from_config(local_config())
    fresh.trainer.load(reference)
    batch = case.batch(case.sample(backend))
    for each in (backend, fresh):
        each.trainer.train(batch)
    assert torch.equal(fresh.trainer.adapter.weights, backend.trainer.adapter.weights)


def test_checkpoint_before_the_first_update_and_after_memory_ran_out(local_config, tmp_path):
    config, case = local_config(), BackendCase(make=lambda: None, directory=tmp_path)
    backend, fresh = LocalBackend.from_config(config), LocalBackend.from_config(config)
    backend.trainer.budget //= 4
    fresh.trainer.load(backend.trainer.save(tmp_path))
    assert fresh.trainer.budget == backend.trainer.budget
    batch = case.batch(case.sample(backend))
    for each in (backend, fresh):
        each.trainer.train(batch)
    assert torch.equal(fresh.trainer.adapter.weights, backend.trainer.adapter.weights)
    smaller = LocalBackend.from_config(
        local_config(backend={"devices": "cpu", "options": {"microbatch_tokens": 7}})
    )
    smaller.trainer.load(backend.trainer.save(tmp_path))
    assert smaller.trainer.budget == 7


def test_missing_model_is_one_line(local_config, tmp_path):
    config = local_config(model={"model": str(tmp_path / "nowhere")})
    with pytest.raises(ModelError, match="nowhere") as caught:
        LocalBackend.from_config(config)
    assert "\n" not in str(caught.value)


def test_pickled_weights_are_refused(local_config, qwen3, tmp_path):
    model = BaseModel(qwen3, qwen3, torch.device("cpu"), torch.float32).model
    model.config.save_pretrained(tmp_path)
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="safetensors"):
        LocalBackend.from_config(local_config(model={"model": str(tmp_path)}))


def test_unknown_option_is_one_line():
    with pytest.raises(ConfigError, match=r"microbatch_tokens") as caught:
        read_backend_options(LocalOptions, {"microbatch_token": 3, "threads": -1})
    assert len(caught.value.problems) == 2


def test_options_have_defaults():
    assert read_backend_options(LocalOptions, {}) == LocalOptions()


@pytest.mark.parametrize("text", ["cuda", "gpu:x", "", "gpu:0,,gpu:1"])
def test_bad_devices(text):
    with pytest.raises(ConfigError, match="comma list"):
        parse_devices(text)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_no_gpu_falls_back_with_one_line(caplog):
    with caplog.at_level(logging.WARNING):
        assert parse_devices("gpu:0,gpu:1") == (torch.device("cpu"), torch.device("cpu"))
    assert len(caplog.records) == 1


def test_dtypes():
    assert pick_dtype("auto", torch.device("cpu")) == torch.float32
    assert pick_dtype("auto", torch.device("cuda", 0)) == torch.bfloat16
    assert pick_dtype("bf16", torch.device("cpu")) == torch.bfloat16


def test_bfloat16_policy_stays_close_to_its_sampler(local_config, tmp_path):
    config = local_config(inference={"dtype": "bf16"})
    case = BackendCase(make=lambda: None, directory=tmp_path)
    backend = LocalBackend.from_config(config)
    result = backend.trainer.train(case.batch(case.sample(backend)))
    assert result.mean_abs_logprob_diff < 0.05
    assert backend.trainer.adapter.weights.dtype == torch.float32
    assert np.isfinite(result.grad_norm)
