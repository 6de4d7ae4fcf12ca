"""Runs whose completions come from vLLM, compared with those of PyTorch."""

import numpy as np
import pytest

from retrain_backends.config import load_config
from retrain_backends.errors import RunError
from retrain_backends.tracking.journal import read_metrics
from retrain_backends.train import train
from retrain_backends.train.checks.training_evidence import missing_evidence

from ..conftest import QUICKSTART
from ..test_sampler import assert_every_adapter_is_used

SEEDS = (1, 2, 3)
STEPS, LAST = 16, 5

pytestmark = pytest.mark.slow


@pytest.fixture(params=["vllm", "openai"])
def policy(backend, vllm_url, request):
    return backend(**{"inference.engine": request.param, "inference.url": vllm_url})


def test_log_probs_are_those_of_teacher_forcing_for_every_adapter(policy, case):
    assert_every_adapter_is_used(policy, case)


def test_a_rank_that_the_server_does_not_take(backend, case, vllm_url):
    policy = backend(**{"inference.url": vllm_url, "model.lora_rank": 16})
    with pytest.raises(RunError, match="LoRA rank 16 is greater than max_lora_rank 8"):
        case.sample(policy)


def test_a_run_learns_as_with_pytorch(vllm_url, tmp_path):
    rewards = {}
    for engine, url in (("pytorch", ""), ("vllm", vllm_url)):
        for seed in SEEDS:
            settings = {
                "inference.engine": engine,
                "inference.url": url,
                "model.lora_rank": 8,
                "training.max_steps": STEPS,
                "training.seed": seed,
                "eval.every": 0,
                "logging.log_dir": str(tmp_path / f"{engine}_{seed}"),
            }
            summary = train(load_config(QUICKSTART, settings))
            assert not missing_evidence(summary.run_dir)
            rows = read_metrics(summary.run_dir)
            assert all(row["mean_abs_logprob_diff"] < 1e-4 for row in rows)
            rewards[engine, seed] = [row["mean_reward"] for row in rows]
    first, last = (
        {e: np.mean([rewards[e, s][part] for s in SEEDS]) for e in ("pytorch", "vllm")}
        for part in (slice(LAST), slice(-LAST, None))
    )
    assert last["vllm"] > first["vllm"] + 0.05
    assert last["vllm"] == pytest.approx(last["pytorch"], abs=0.12)
    assert first["vllm"] == pytest.approx(first["pytorch"], abs=0.12)
