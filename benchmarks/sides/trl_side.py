"""The peer's side of `benchmarks/step.py`: TRL's GRPOTrainer."""

import sys
import tempfile
import time
from typing import Any

from datasets import Dataset
from peft import LoraConfig
from step_size import ALPHA, LR, RANK, STEP_SIZES, StepSize, phases, print_summary, reward, texts
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer  # pyright: ignore


def run(model: str, size: StepSize) -> list[dict[str, float]]:
    """The peer's side, set up for its fastest: no KL term, no second pass for old log-probs."""
    parts: list[dict[str, float]] = []
    clock = {"start": 0.0, "sampled": 0.0, "tokens": 0}

    class Peer(GRPOTrainer):
        def _generate(self, *args, **kwargs):
            result = super()._generate(*args, **kwargs)
            clock["sampled"] = time.process_time()
            return result

    class Clock(TrainerCallback):
        def on_step_begin(self, *_args, **_kwargs):
            clock["start"] = time.process_time()

        def on_step_end(self, *_args, **_kwargs):
            end = time.process_time()
            parts.append(phases(clock["start"], clock["sampled"], end, int(clock["tokens"])))

    def score(completion_ids: list[list[int]], **_: object) -> list[float | None]:
        clock["tokens"] = sum(map(len, completion_ids))
        return [*reward(len(completion_ids))]

    with tempfile.TemporaryDirectory() as directory:
        settings = GRPOConfig(
            output_dir=directory,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            per_device_train_batch_size=size.prompts * size.group,
            num_generations=size.group,
            max_completion_length=size.max_tokens,
            max_steps=size.steps,
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
        rows = [trl_prompt(tokenizer, text) for text in texts(size, size.steps)]
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
    return parts


def trl_prompt(tokenizer: Any, text: str) -> dict[str, Any]:
    """A chat when the model has a chat template, else plain text."""
    if tokenizer.chat_template:
        return {"prompt": [{"role": "user", "content": text}]}
    return {"prompt": text}


if __name__ == "__main__":
    print_summary(run(sys.argv[2], STEP_SIZES[sys.argv[1]]))
