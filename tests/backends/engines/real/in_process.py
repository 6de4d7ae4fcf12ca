"""vLLM in the process that trains: a program, run in an environment with vLLM.

    python in_process.py TASK DIRECTORY

Prints what it has found as one line of JSON.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from retrain_backends.config import load_config
from retrain_backends.engines.vllm import VllmDialect
from retrain_backends.errors import RetrainError
from retrain_backends.local.backend import LocalBackend
from retrain_backends.local.vllm_engine import VllmEngine
from retrain_backends.local.vllm_plan import plan_of
from retrain_backends.testing import BackendCase, GroupSampling
from retrain_backends.testing.case import flat_logprobs, flat_tokens
from retrain_backends.tracking.journal import read_metrics
from retrain_backends.train import train
from retrain_backends.train.checks.training_evidence import missing_evidence
from retrain_backends.types import SamplingParams

QUICKSTART = Path(__file__).parents[4] / "examples" / "quickstart.toml"
SETTINGS = {"inference.engine": "vllm", "backend.devices": "cpu", "eval.every": 0}
TEMPERATURE, STOP = 0.7, 0


class SleepyDialect(VllmDialect):
    """vLLM that sleeps while training; on the CPU that frees nothing."""

    in_process = f"{Path(__file__).stem}:sleepy"


def sleepy(settings):
    return VllmEngine(replace(plan_of(settings), sleeps=True))


def sampling(directory):
    """An engine that gets four versions of an adapter, and what it samples from each."""
    sys.path.append(str(Path(__file__).parent))
    chosen = SETTINGS | {
        "inference.engine": f"{Path(__file__).stem}:SleepyDialect",
        "model.lora_rank": 4,
        "training.lr": 0.01,
        "training.seed": 1,
        "training.max_tokens": 24,
    }
    backend = LocalBackend.from_config(load_config(QUICKSTART, chosen).policy(longest_prompt=20))
    params = SamplingParams(temperature=TEMPERATURE, stop_token_ids=(STOP,))
    case = BackendCase(
        lambda: backend, directory, sampling=GroupSampling(7, 4, max_tokens=12, params=params)
    )
    versions = []
    for _ in range(4):
        groups = case.sample(backend)
        distance = np.abs(flat_logprobs(groups) - scores(backend, case, groups)).max()
        backend.trainer.train(case.batch(groups))
        moved = np.abs(flat_logprobs(groups) - scores(backend, case, groups)).mean()
        versions.append(
            {
                "distance": float(distance),
                "moved": float(moved),
                "tokens": flat_tokens(groups),
                "sizes": [len(group) for group in groups],
                "ends": [
                    (row.stop_reason, int(row.tokens_T[-1]), len(row.tokens_T))
                    for group in groups
                    for row in group
                ],
            }
        )
    abandoned = backend.sampler.sample(case.requests(), params)
    next(abandoned)
    abandoned.close()
    again = [case.sample(backend) for _ in range(2)]
    facts = {
        "versions": versions,
        "seeded": flat_tokens(again[0]) == flat_tokens(again[1]),
        "errors": errors(backend, case, params),
    }
    backend.close()
    return facts


def errors(backend, case, params):
    """The lines about a prompt that is too long, and about an engine that has died."""
    request = case.requests()[0]
    long = replace(request, prompt_T=np.tile(request.prompt_T, 99))
    lines = [line_of(lambda: list(backend.sampler.sample([long], params)))]
    for child in torch.multiprocessing.active_children():
        child.kill()
    return [*lines, line_of(lambda: case.sample(backend))]


def line_of(call):
    try:
        call()
    except RetrainError as error:
        return str(error)
    return ""


def scores(backend, case, groups):
    """The trainer's log-probs of sampled groups."""
    rows = [
        (prompt, row) for prompt, group in zip(case.prompts, groups, strict=True) for row in group
    ]
    prompts, tokens = [prompt for prompt, _ in rows], [row.tokens_T for _, row in rows]
    return np.concatenate(backend.trainer.score(prompts, tokens, TEMPERATURE))


def training(directory):
    """A short run."""
    chosen = SETTINGS | {
        "model.lora_rank": 8,
        "training.max_steps": 16,
        "training.seed": 1,
        "logging.log_dir": str(directory / "run"),
    }
    summary = train(load_config(QUICKSTART, chosen))
    rows = read_metrics(summary.run_dir)
    return {
        "missing": missing_evidence(summary.run_dir),
        "differences": [row["mean_abs_logprob_diff"] for row in rows],
        "rewards": [row["mean_reward"] for row in rows],
        "handover_s": [row["handover_s"] for row in rows],
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    facts = {"sampling": sampling, "training": training}[sys.argv[1]](Path(sys.argv[2]))
    print(json.dumps(facts))
