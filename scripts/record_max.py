"""Run Modular's MAX, and record what it answers to the requests of `engine = "max"`.

    uv venv max-environment && uv pip install --python max-environment/bin/python modular==26.7
    uv run python scripts/record_max.py max-environment/bin/max

Starts `max serve` on the CPU with a small random Llama in float32 (it compiles for three to six
minutes), sends the requests, computes the log-probs of the answers with transformers, and writes
`tests/backends/engines/recorded/max.json`, which the tests of the dialect read.
"""

import argparse
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import httpx
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from retrain_backends.engines.dialect import Asked, Call
from retrain_backends.engines.max import MaxDialect
from retrain_backends.tokenizer import resolve_model
from retrain_backends.types import SamplingParams
from retrain_test_support.environments import free_port, running

FILE = Path(__file__).parents[1] / "tests" / "backends" / "engines" / "recorded" / "max.json"
NAME = "tiny-llama"
PROMPT = [1, 4, 22, 40, 33, 41, 54]
CONTEXT = 256
READY_S = 1800.0
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")


def calls() -> dict[str, Call]:
    """What is asked, by a name for the tests."""
    dialect = MaxDialect()
    cold, stopping = SamplingParams(0.7, ()), SamplingParams(0.7, (0, 2, 18, 24))
    return {
        "ids": dialect.completion(Asked(PROMPT, 1, 16, cold, NAME, 11)),
        "stop": dialect.completion(Asked(PROMPT, 1, 16, stopping, NAME, 4)),
        "text": dialect.completion(Asked("What is 1+2?", 1, 8, cold, NAME, 11)),
        "too long": dialect.completion(Asked(PROMPT * 60, 1, 8, cold, NAME, 11)),
        "adapter": dialect.loading("retrain-v1", "/dev/shm/retrain-v1"),
    }


def main() -> None:
    """Start the server, ask, and write the file."""
    parser = argparse.ArgumentParser(description="Record what MAX answers.")
    parser.add_argument("program", type=Path, help="the `max` of an environment with `modular`")
    parser.add_argument("--output", type=Path, default=FILE)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        model = make_model(Path(directory))
        exchanges = recorded(arguments.program.absolute(), Path(directory), model)
    about = {"server": version(arguments.program), "model": "a random Llama, float32, on the CPU"}
    arguments.output.parent.mkdir(exist_ok=True)
    text = json.dumps({**about, "exchanges": exchanges}, indent=1)
    arguments.output.write_text(text + "\n", "utf-8")


def make_model(directory: Path) -> LlamaForCausalLM:
    """A Llama with random weights and the tokenizer of the bundled model, saved."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=128,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=1,
        eos_token_id=0,
        initializer_range=0.1,
    )
    model = LlamaForCausalLM(config).float().eval()
    model.save_pretrained(directory)
    for name in TOKENIZER:
        shutil.copy(Path(resolve_model("builtin:tiny-arithmetic")) / name, directory)
    return model


def version(program: Path) -> str:
    """The version of MAX, as it says."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    return said.stdout.strip()


def recorded(program: Path, directory: Path, model: LlamaForCausalLM) -> dict[str, Any]:
    """The exchanges, by name."""
    port = free_port()
    options = {
        "model": str(directory),
        "served-model-name": NAME,
        "devices": "cpu",
        "quantization-encoding": "float32",
        "max-length": str(CONTEXT),
        "port": str(port),
    }
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    settings = {
        "HF_HUB_OFFLINE": "1",
        "MODULAR_TELEMETRY_ENABLED": "0",
        "PATH": f"{program.parent}:{os.environ['PATH']}",
    }
    url = f"http://127.0.0.1:{port}"
    with running([program, "serve", *words], f"{url}/health", directory, settings, READY_S):
        return {name: exchange(url, call, model) for name, call in calls().items()}


def exchange(url: str, call: Call, model: LlamaForCausalLM) -> dict[str, Any]:
    """One request with its answer, and the model's own log-probs of the answer at temperature 1."""
    response = httpx.post(f"{url}{call.path}", json=call.body, timeout=120.0)
    answer = response.json()
    scores = [score(model, choice) for choice in answer.get("choices", [])]
    return {
        "path": call.path,
        "body": dict(call.body),
        "status": response.status_code,
        "answer": answer,
        "teacher_forced": scores,
    }


@torch.inference_mode()
def score(model: LlamaForCausalLM, choice: Any) -> list[float]:
    """The log-prob of each token of a completion."""
    prompt, tokens = choice["prompt_token_ids"], choice["token_ids"]
    logits = model(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1].double()
    return logits.log_softmax(-1).gather(1, torch.tensor(tokens)[:, None])[:, 0].tolist()


if __name__ == "__main__":
    main()
