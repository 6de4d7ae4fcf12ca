"""Make `builtin:tiny-arithmetic`, the small model that the quickstart trains.

    uv run python scripts/pretrain_tiny_arithmetic.py

The model is shown the solutions of arithmetic_solutions.py, quick ones that are mostly wrong and
worked ones that are mostly right, and is left undecided between them, with the quick ones ahead.
So it mostly guesses, though it does better when it happens to think first. That leaves
reinforcement learning something to teach: to work the answer out, and to do it without slips.
Only questions of the train split are used. The same recipe gives the same weights on the same
machine; it takes five to eight minutes on one CPU core (set OMP_NUM_THREADS=1).
"""

import argparse
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from arithmetic_solutions import solution
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import nn
from torch.nn import functional
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from retrain_backends.boxed import extract_boxed
from retrain_backends.config.task import DEFAULT_TEMPLATE
from retrain_backends.data.arithmetic import ArithmeticExamples
from retrain_backends.randomness import Purpose, stream
from retrain_backends.types import Example

DIRECTORY = Path("packages/retrain-backends/src/retrain_backends/models/tiny-arithmetic")
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|unknown|>")
PAD, EOS = SPECIAL.index("<|endoftext|>"), SPECIAL.index("<|im_end|>")
# Whole words of the chat template, the questions, the default prompt template and the solutions.
WORDS = (
    *("user", "assistant", "system", "What", " is", "let", " me", " think", "\\boxed{"),
    *("Reason", " step", " by", " and", " put", " your", " final", " answer", " in"),
)
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MODES = {"sampled": {"do_sample": True, "top_k": 0}, "greedy": {"do_sample": False}}


@dataclass(frozen=True)
class Recipe:
    """All that the weights depend on.

    `quick_share` and `slip_share` (of the worked solutions) hold for the last part of the steps;
    during the first `clean_share` of them solutions have no slips and `clean_quick_share` are
    quick, so that the skill is there before the mistakes are.
    """

    seed: int = 0
    steps: int = 1500
    batch_size: int = 64
    muon_lr: float = 0.02
    adam_lr: float = 0.003
    warmup_steps: int = 30
    decay_share: float = 0.3
    clean_share: float = 0.65
    clean_quick_share: float = 0.3
    quick_share: float = 0.6
    slip_share: float = 0.35
    template_share: float = 0.15


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A token for each printable ASCII character, the new line, and a few words."""
    characters = ["\n", *map(chr, range(32, 127))]
    vocabulary = {text: i for i, text in enumerate([*SPECIAL, *WORDS, *characters])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<|unknown|>"))
    words = "|".join(word.replace("\\", r"\\").replace("{", r"\{") for word in WORDS)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(rf"{words}|.|\n"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token="<|unknown|>",
        chat_template=CHAT_TEMPLATE,
    )


def make_model(seed: int, vocabulary_size: int) -> Qwen3ForCausalLM:
    """A Qwen3 of 0.8 million fresh weights."""
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=vocabulary_size,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )
    return Qwen3ForCausalLM(config)


class Rows:
    """Token rows of the train split, a batch at a time."""

    def __init__(self, recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> None:
        self._recipe = recipe
        self._tokenizer = tokenizer
        self._examples = ArithmeticExamples(recipe.seed, "train")

    def batch(self, step: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Token ids and labels (-100 = not trained) of a step, in parts of similar lengths."""
        size = self._recipe.batch_size
        clean = step < self._recipe.clean_share * self._recipe.steps
        rows = [self._row(i, clean=clean) for i in range(step * size, (step + 1) * size)]
        rows.sort(key=lambda row: len(row[0]) + len(row[1]))
        return [padded(rows[first : first + 16]) for first in range(0, size, 16)]

    def _row(self, index: int, *, clean: bool) -> tuple[list[int], list[int]]:
        recipe = self._recipe
        rng = stream(recipe.seed, Purpose.SAMPLE, index)
        question = self._examples[index].question
        template = DEFAULT_TEMPLATE if rng.random() < recipe.template_share else "{question}"
        answer = solution(
            question,
            rng,
            quick_share=recipe.clean_quick_share if clean else recipe.quick_share,
            slip_share=0.0 if clean else recipe.slip_share,
        )
        prompt = render(self._tokenizer, template.replace("{question}", question))
        return self._encode(prompt), self._encode(answer + "<|im_end|>")

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False)


def padded(rows: list[tuple[list[int], list[int]]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and labels of (prompt, answer) rows, both of shape [rows, longest row]."""
    shape = len(rows), max(len(prompt) + len(answer) for prompt, answer in rows)
    ids, labels = np.full(shape, PAD), np.full(shape, -100)
    for row, (prompt, answer) in enumerate(rows):
        end = len(prompt) + len(answer)
        ids[row, :end] = prompt + answer
        labels[row, len(prompt) : end] = answer
    return torch.from_numpy(ids), torch.from_numpy(labels)


def render(tokenizer: PreTrainedTokenizerFast, content: str) -> str:
    """A user's message in the chat template, up to where the answer begins."""
    message = [{"role": "user", "content": content}]
    return str(tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=False))


def make_optimizers(model: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for the embedding and the norms."""
    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.ndim == 2 and "embed" not in name]
    rest = [p for name, p in named if p.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(matrices, lr=recipe.muon_lr, weight_decay=0.0),
        torch.optim.AdamW(rest, lr=recipe.adam_lr, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def accumulate_gradient(
    model: Qwen3ForCausalLM, parts: list[tuple[torch.Tensor, torch.Tensor]]
) -> float:
    """The mean cross-entropy of a batch's answers, its gradient left in the parameters."""
    tokens = sum(int((labels != -100).sum()) for _, labels in parts)
    total = 0.0
    for ids, labels in parts:
        hidden = model.model(input_ids=ids).last_hidden_state[:, :-1]
        trained = labels[:, 1:] != -100
        logits, targets = model.lm_head(hidden[trained]), labels[:, 1:][trained]
        loss = functional.cross_entropy(logits, targets, reduction="sum") / tokens
        loss.backward()
        total += loss.item()
    return total


def pretrain(model: Qwen3ForCausalLM, rows: Rows, recipe: Recipe) -> list[dict[str, float]]:
    """Minimise the cross-entropy of the solutions, and log its mean every 100 steps."""
    optimizers = make_optimizers(model, recipe)

    def schedule(step: int) -> float:
        remaining = (recipe.steps - step) / (recipe.decay_share * recipe.steps)
        return min(1.0, (step + 1) / recipe.warmup_steps, remaining)

    schedules = [torch.optim.lr_scheduler.LambdaLR(each, schedule) for each in optimizers]
    log, losses, started = [], [], time.perf_counter()
    for step in range(recipe.steps):
        model.zero_grad()
        losses.append(accumulate_gradient(model, rows.batch(step)))
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for each in (*optimizers, *schedules):
            each.step()
        if (step + 1) % 100 == 0:
            seconds = round(time.perf_counter() - started)
            log.append({"step": step + 1, "loss": round(np.mean(losses), 4), "seconds": seconds})
            print(json.dumps(log[-1]), flush=True)
            losses.clear()
    return log


def evaluate(directory: Path, examples: Sequence[Example]) -> dict[str, dict[str, float]]:
    """Accuracy and share of worked answers of a stored model, sampled and greedy."""
    model: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(directory, padding_side="left")
    result = {}
    for name, template in (("bare", "{question}"), ("default", DEFAULT_TEMPLATE)):
        prompts = [
            render(tokenizer, template.replace("{question}", example.question))
            for example in examples
        ]
        inputs = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
        for mode, how in MODES.items():
            torch.manual_seed(0)
            tokens = model.generate(**inputs, max_new_tokens=32, **how)
            texts = tokenizer.batch_decode(
                tokens[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
            )
            pairs = zip(texts, examples, strict=True)
            right = [extract_boxed(text) == example.reference for text, example in pairs]
            shares = {"accuracy": right, "worked": ["think" in text for text in texts]}
            result[f"{name} prompt, {mode}"] = {
                key: round(float(np.mean(values)), 3) for key, values in shares.items()
            }
    return result


def main() -> None:
    """Pretrain, save, and evaluate what was saved."""
    parser = argparse.ArgumentParser(description="Make builtin:tiny-arithmetic.")
    parser.add_argument("--directory", type=Path, default=DIRECTORY)
    for name, value in asdict(Recipe()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    values = vars(parser.parse_args())
    directory = values.pop("directory")
    recipe = Recipe(**values)
    tokenizer = make_tokenizer()
    model = make_model(recipe.seed, len(tokenizer))
    log = pretrain(model, Rows(recipe, tokenizer), recipe)
    model.generation_config = GenerationConfig(eos_token_id=EOS, pad_token_id=PAD)
    model.bfloat16().save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    held_out = evaluate(directory, ArithmeticExamples(recipe.seed, "test")[:1024])
    report = {"recipe": asdict(recipe), "held_out": held_out, "log": log}
    (directory / "pretraining.json").write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(held_out, indent=1))


if __name__ == "__main__":
    main()
