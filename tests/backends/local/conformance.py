"""Checks a sampler with other settings: `conformance.py DIRECTORY KEY=VALUE...`.

Prints the mean distance of sampler and trainer at the first step, nats a token.
"""

import sys
from pathlib import Path

import torch

from retrain_backends.config import RunConfig
from retrain_backends.local.backend import LocalBackend
from retrain_backends.testing import BackendCase
from retrain_backends.testing.suite import (
    check_policy_is_that_of_the_call,
    check_training_lowers_the_loss,
)

if __name__ == "__main__":
    directory, *settings = sys.argv[1:]
    torch.set_num_threads(1)
    sections = {
        "backend": {"devices": "cpu"},
        "model": {"model": "builtin:tiny-arithmetic", "lora_rank": 4},
        "training": {"lr": 0.02, "seed": 1, "max_tokens": 16},
        "inference": dict(setting.split("=") for setting in settings),
    }
    policy = RunConfig.model_validate(sections).policy()
    case = BackendCase(lambda: LocalBackend.from_config(policy), Path(directory))
    check_policy_is_that_of_the_call(case)
    check_training_lowers_the_loss(case)
    with case.backend() as backend:
        print(backend.trainer.train(case.batch(case.sample(backend))).mean_abs_logprob_diff)
