"""One engine of `benchmarks/engines.py`: sampling, the hand-over and the mismatch, as JSON.

    python engine_side.py SIZE MODEL RANK ENGINE [URL]...

It runs in the environment of the engine: an engine without a URL samples in this process.
"""

import json
import sys
from contextlib import closing
from statistics import median

import torch
from step_size import LR, STEP_SIZES, texts

from retrain_backends.config import RunConfig
from retrain_backends.local.backend import LocalBackend
from retrain_backends.testing import GroupSampling
from retrain_backends.tokenizer import load_tokenizer
from retrain_backends.train.checks.engine_figures import EngineMeasurement
from retrain_backends.types import SamplingParams

REPEATS = 3


def main() -> None:
    """Print the medians as the last line."""
    name, model, rank, engine, *urls = sys.argv[1:]
    size, device = STEP_SIZES[name], "gpu:0" if torch.cuda.is_available() else "cpu"
    config = RunConfig.model_validate(
        {
            "backend": {"devices": device, "options": {"threads": 1}},
            "inference": {"engine": engine, "url": urls},
            "model": {"model": model, "lora_rank": int(rank)},
            "training": {
                "lr": LR,
                "seed": 0,
                "max_tokens": size.max_tokens,
                "batch_size": size.prompts,
                "group_size": size.group,
            },
        }
    )
    tokenizer = load_tokenizer(model)
    prompts = [tokenizer.encode(tokenizer.render(text, "{question}")) for text in texts(size, 1)]
    params = SamplingParams(1.0, tokenizer.stop_token_ids)
    sampling = GroupSampling(0, size.group, size.max_tokens, params)
    with closing(LocalBackend.from_config(config.policy(max(map(len, prompts))))) as backend:
        measurement = EngineMeasurement(backend, prompts, sampling)
        measurement.warm_up()
        runs = [measurement.run() for _ in range(REPEATS)]
        adapter_mb = backend.trainer.adapter.weights.nbytes / 1e6
    handovers = [run.handover_s for run in runs if run.handover_s is not None]
    figures = {
        "tokens/s": median(run.tokens_per_s for run in runs),
        "hand-over, s": median(handovers) if handovers else None,
        "adapter, MB": adapter_mb,
        "mismatch, nats": max(run.mismatch_nats for run in runs),
        "train, s": median(run.train_s for run in runs),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
