"""Our side of `benchmarks/step.py`: sample, advantages, train."""

import sys
import time
from collections.abc import Sequence

import numpy as np
from step_size import LR, RANK, STEP_SIZES, StepSize, phases, print_summary, reward, texts

from retrain_backends.config import RunConfig
from retrain_backends.local.backend import LocalBackend
from retrain_backends.testing import GroupSampling
from retrain_backends.tokenizer import load_tokenizer
from retrain_backends.types import Completion, Floats, SamplingParams, Tokens, TrainBatch
from retrain_core import Algorithm, CompletionBatch


def run(model: str, size: StepSize) -> list[dict[str, float]]:
    """Our side: sample, advantages, train."""
    config = RunConfig.model_validate(
        {
            "backend": {"devices": "cpu", "options": {"threads": 1}},
            "model": {"model": model, "lora_rank": RANK},
            "training": {
                "lr": LR,
                "seed": 0,
                "batch_size": size.prompts,
                "group_size": size.group,
            },
        }
    )
    backend = LocalBackend.from_config(config.policy())
    tokenizer = load_tokenizer(model)
    algorithm = Algorithm.from_names("grpo", "none")
    questions = texts(size, size.steps)
    parts = []
    for step in range(size.steps):
        start = time.process_time()
        some = questions[step * size.prompts :][: size.prompts]
        prompts = [tokenizer.encode(tokenizer.render(text, "{question}")) for text in some]
        params = SamplingParams(1.0, tokenizer.stop_token_ids)
        sampling = GroupSampling(0, size.group, size.max_tokens, params)
        groups = sampling.sample(backend.sampler, prompts, step=step)
        sampled = time.process_time()
        completions = [completion for group in groups for completion in group]
        batch = CompletionBatch(
            rewards=np.array(reward(len(completions))),
            group_offsets=np.arange(size.prompts + 1) * size.group,
            token_offsets=np.cumsum([0, *(len(c.tokens_T) for c in completions)]),
            logprobs=np.concatenate([c.logprobs_T for c in completions]),
        )
        backend.trainer.train(
            train_batch(prompts, completions, batch, algorithm(batch).values, step)
        )
        end = time.process_time()
        parts.append(phases(start, sampled, end, len(batch.logprobs)))
    return parts


def train_batch(
    prompts: Sequence[Tokens],
    completions: Sequence[Completion],
    batch: CompletionBatch,
    advantages: Floats,
    step: int,
) -> TrainBatch:
    """All completions as one training batch."""
    return TrainBatch(
        prompts=prompts,
        group_offsets_g=batch.group_offsets,
        token_offsets_n=batch.token_offsets,
        tokens_t=np.concatenate([c.tokens_T for c in completions]),
        logprobs_t=batch.logprobs,
        advantages_t=advantages,
        trained_t=np.ones(len(batch.logprobs), dtype=bool),
        temperature=1.0,
        step=step,
        seed=0,
    )


if __name__ == "__main__":
    print_summary(run(sys.argv[2], STEP_SIZES[sys.argv[1]]))
