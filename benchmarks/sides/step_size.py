"""The parts that both sides of `benchmarks/step.py` share: size of a step, model, figures."""

import json
import resource
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from retrain_backends.data.arithmetic import ArithmeticExamples
from retrain_backends.tokenizer import resolve_model

RANK, ALPHA, LR = 16, 32, 1e-3


@dataclass(frozen=True)
class StepSize:
    """The size of one step, and the number of timed steps."""

    name: str
    prompts: int
    group: int
    max_tokens: int
    steps: int


STEP_SIZES = {
    size.name: size
    for size in (
        StepSize("small", prompts=8, group=16, max_tokens=32, steps=12),
        StepSize("medium", prompts=4, group=8, max_tokens=256, steps=3),
    )
}


def make_model(size: str, directory: Path) -> str:
    """The bundled model, or a random one of 42M parameters with a vocabulary of 32,000 words."""
    if size == "small":
        return resolve_model("builtin:tiny-arithmetic")
    directory.mkdir(parents=True, exist_ok=True)
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
    words.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore
    PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token="w1", pad_token="w2", unk_token="w0"
    ).save_pretrained(directory)
    return str(directory)


def texts(size: StepSize, steps: int) -> list[str]:
    """Prompts of about 32 tokens for the word model; arithmetic for the bundled one."""
    rng = np.random.default_rng(0)
    if size.name == "small":
        examples = ArithmeticExamples(0, "train")
        return [examples[i].question for i in range(steps * size.prompts)]
    return [
        " ".join(f"w{word}" for word in rng.integers(3, 32_000, 32))
        for _ in range(steps * size.prompts)
    ]


def reward(count: int) -> list[float]:
    """Alternating rewards: every group is informative and both sides train on all rows."""
    return [float(i % 2) for i in range(count)]


def phases(start: float, sampled: float, end: float, tokens: int) -> dict[str, float]:
    """The figures of one step, from the process's CPU clock."""
    return {
        "sampling, CPU s": sampled - start,
        "training, CPU s": end - sampled,
        "step, CPU s": end - start,
        "tokens sampled": tokens,
        "CPU ms per token": 1000 * (end - start) / tokens,
    }


def print_summary(parts: list[dict[str, float]]) -> None:
    """Medians over the steps, the first (warm-up) left out, and the peak memory, as JSON."""
    figures = {name: median(part[name] for part in parts[1:]) for name in parts[0]}
    figures["peak memory, MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(figures))
