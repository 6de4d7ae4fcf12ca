"""One training step of retrain's local trainer against TRL's GRPOTrainer, in the same run.

    uv run --group bench python benchmarks/step.py small      # the bundled model, 8 x 16, 32 tokens
    uv run --group bench python benchmarks/step.py medium     # 42M parameters, 4 x 8, 256 tokens

Both sides get the same model, prompts, group size, number of tokens, LoRA rank and layers, and do
one optimiser step a batch, on one CPU thread, each in a process of its own. Printed: median CPU
seconds a step (they depend on other load less than wall time does), by phase, the peak memory of
the process, and our share of the peer's.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

os.environ["OMP_WAIT_POLICY"] = "passive"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

RANK, ALPHA, LR = 16, 32, 1e-3


@dataclass(frozen=True)
class Workload:
    """How much one step does."""

    prompts: int
    group: int
    max_tokens: int
    steps: int


WORKLOADS = {
    "small": Workload(prompts=8, group=16, max_tokens=32, steps=12),
    "medium": Workload(prompts=4, group=8, max_tokens=256, steps=3),
}


def main() -> None:
    """Run both sides and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("--side", choices=["retrain", "trl"], help=argparse.SUPPRESS)
    parser.add_argument("--model", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        side = run_retrain if args.side == "retrain" else run_trl
        print(json.dumps(side(args.model, WORKLOADS[args.workload])))
        return
    with tempfile.TemporaryDirectory() as directory:
        model = make_model(args.workload, Path(directory))
        sides = {side: spawn(args.workload, side, model) for side in ("retrain", "trl")}
    report(args.workload, sides)


def spawn(workload: str, side: str, model: str) -> dict[str, float]:
    """Measure one side in a fresh process; its last line is the result."""
    command = [sys.executable, __file__, workload, "--side", side, "--model", model]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{side} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def report(workload: str, sides: dict[str, dict[str, float]]) -> None:
    """A table with our share of the peer's figures."""
    ours, peer = sides["retrain"], sides["trl"]
    print(f"{workload}: {WORKLOADS[workload]}")
    print(f"{'':22}{'retrain':>10}{'TRL':>10}{'ratio':>8}")
    for figure in ours:
        ratio = ours[figure] / peer[figure]
        print(f"{figure:22}{ours[figure]:10.3f}{peer[figure]:10.3f}{ratio:8.2f}")


def summary(parts: list[dict[str, float]]) -> dict[str, float]:
    """Medians over the steps, the first (warm-up) left out."""
    figures = {name: median(part[name] for part in parts[1:]) for name in parts[0]}
    figures["peak memory, MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return figures


def make_model(workload: str, directory: Path) -> str:
    """The bundled model, or a random one of 42M parameters with a vocabulary of 32,000 words."""
    from retrain_backends.tokenizer import resolve_model

    if workload == "small":
        return resolve_model("builtin:tiny-arithmetic")
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=32_000,
        hidden_size=512,
        intermediate_size=1536,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=64,
        tie_word_embeddings=True,
    )
    Qwen3ForCausalLM(config).save_pretrained(directory)
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(32_000)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token="w1", pad_token="w2", unk_token="w0"
    ).save_pretrained(directory)
    return str(directory)


def texts(workload: Workload, steps: int) -> list[str]:
    """Prompts of about 32 tokens for the word model; arithmetic for the bundled one."""
    import numpy as np

    rng = np.random.default_rng(0)
    if workload == WORKLOADS["small"]:
        from retrain_backends.data.arithmetic import ArithmeticExamples

        examples = ArithmeticExamples(0, "train")
        return [examples[i].question for i in range(steps * workload.prompts)]
    return [
        " ".join(f"w{word}" for word in rng.integers(3, 32_000, 32))
        for _ in range(steps * workload.prompts)
    ]


def reward(count: int) -> list[float]:
    """Alternating rewards: every group is informative and both sides train on all rows."""
    return [float(i % 2) for i in range(count)]


def run_retrain(model: str, workload: Workload) -> dict[str, float]:
    """Our side: sample, advantages, train."""
    import numpy as np
    from retrain_backends.config import RunConfig
    from retrain_backends.local.backend import LocalBackend
    from retrain_backends.tokenizer import load_tokenizer
    from retrain_backends.types import SamplingParams
    from retrain_core import Algorithm, CompletionBatch

    config = RunConfig.model_validate(
        {
            "backend": {"devices": "cpu", "options": {"threads": 1}},
            "model": {"model": model, "lora_rank": RANK},
            "training": {"lr": LR, "seed": 0},
        }
    )
    backend = LocalBackend.from_config(config)
    tokenizer = load_tokenizer(model)
    algorithm = Algorithm.from_names("grpo", "none")
    questions = texts(workload, workload.steps)
    parts = []
    for step in range(workload.steps):
        start = time.process_time()
        some = questions[step * workload.prompts :][: workload.prompts]
        prompts = [tokenizer.encode(tokenizer.render(text, "{question}")) for text in some]
        params = SamplingParams(
            group_size=workload.group,
            max_tokens=workload.max_tokens,
            temperature=1.0,
            stop_token_ids=tokenizer.stop_token_ids,
            seed=0,
            step=step,
        )
        groups = backend.sample(prompts, params)
        sampled = time.process_time()
        completions = [completion for group in groups for completion in group]
        batch = CompletionBatch(
            rewards=np.array(reward(len(completions))),
            group_offsets=np.arange(workload.prompts + 1) * workload.group,
            token_offsets=np.cumsum([0, *(len(c.tokens_T) for c in completions)]),
            logprobs=np.concatenate([c.logprobs_T for c in completions]),
        )
        backend.train_step(_train_batch(prompts, completions, batch, algorithm(batch).values, step))
        end = time.process_time()
        parts.append(_phases(start, sampled, end, len(batch.logprobs)))
    return summary(parts)


def _train_batch(prompts, completions, batch, advantages, step):
    import numpy as np
    from retrain_backends.types import TrainBatch

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


def _phases(start: float, sampled: float, end: float, tokens: int) -> dict[str, float]:
    return {
        "sampling, CPU s": sampled - start,
        "training, CPU s": end - sampled,
        "step, CPU s": end - start,
        "tokens sampled": tokens,
        "CPU ms per token": 1000 * (end - start) / tokens,
    }


def run_trl(model: str, workload: Workload) -> dict[str, float]:
    """The peer's side, set up for its fastest: no KL term, no second pass for old log-probs."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    parts: list[dict[str, float]] = []
    clock = {"start": 0.0, "sampled": 0.0, "tokens": 0}

    class Peer(GRPOTrainer):
        def _generate(self, *args, **kwargs):
            result = super()._generate(*args, **kwargs)
            clock["sampled"] = time.process_time()
            return result

    class Clock(TrainerCallback):
        def on_step_begin(self, *args, **kwargs):
            clock["start"] = time.process_time()

        def on_step_end(self, *args, **kwargs):
            end = time.process_time()
            parts.append(_phases(clock["start"], clock["sampled"], end, int(clock["tokens"])))

    def score(completion_ids, **_):
        clock["tokens"] = sum(map(len, completion_ids))
        return reward(len(completion_ids))

    with tempfile.TemporaryDirectory() as directory:
        settings = GRPOConfig(
            output_dir=directory,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            per_device_train_batch_size=workload.prompts * workload.group,
            num_generations=workload.group,
            max_completion_length=workload.max_tokens,
            max_steps=workload.steps,
            learning_rate=LR,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            beta=0.0,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            shuffle_dataset=False,
            seed=0,
        )
        tokenizer = AutoTokenizer.from_pretrained(model)
        rows = [_trl_prompt(tokenizer, text) for text in texts(workload, workload.steps)]
        Peer(
            model=AutoModelForCausalLM.from_pretrained(model, dtype="float32"),
            args=settings,
            reward_funcs=score,
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            peft_config=LoraConfig(
                r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM"
            ),
            callbacks=[Clock()],
        ).train()
    return summary(parts)


def _trl_prompt(tokenizer, text: str) -> dict:
    if tokenizer.chat_template:
        return {"prompt": [{"role": "user", "content": text}]}
    return {"prompt": text}


if __name__ == "__main__":
    main()
