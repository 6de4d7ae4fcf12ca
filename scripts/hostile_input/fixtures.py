"""Intact files, to be damaged: a run, a campaign, an adapter, a model, a data set."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from hostile_input.configuration_files import FAKE, toml
from retrain_backends.tokenizer import resolve_model

_ADAPTER_CONFIG = {
    "peft_type": "LORA",
    "r": 4,
    "lora_alpha": 8,
    "target_modules": ["q_proj", "v_proj"],
    "rank_pattern": {},
    "alpha_pattern": {},
}
ROWS = "\n".join(
    json.dumps({"question": f"What is {n} + {n}?", "answer": str(2 * n), "level": n})
    for n in range(20)
)


def make_fixtures(directory: Path, command: Sequence[str]) -> None:
    """Make a run, a campaign, an adapter, a model and a data set, to be damaged."""
    directory.mkdir()
    campaign = {"seeds": "[1, 2]", "max_steps": "2", "directory": '"campaign"'}
    evaluated = {**FAKE, "eval": {"every": "1", "max_examples": "2"}}
    condition = {"advantage_mode": '"grpo"', "transform_mode": '"none"'}
    files = {
        "run.toml": {**evaluated, "logging": {"log_dir": '"run"'}},
        "campaign.toml": {**evaluated, "campaign": campaign, "campaign.conditions": condition},
    }
    with chdir(directory):
        for name, tables in files.items():
            Path(name).write_bytes(toml(tables))
            subprocess.run([*command, name], capture_output=True, check=True)
        shutil.copytree(resolve_model("builtin:tiny-arithmetic"), "model")
        _write_adapter(Path("adapter"))
        Path("data").mkdir()
        Path("data/train.jsonl").write_text(ROWS)


def _write_adapter(directory: Path) -> None:
    directory.mkdir()
    random = np.random.default_rng(0)
    tensors = {}
    for module in ("q_proj", "v_proj"):
        name = f"base_model.model.model.layers.0.self_attn.{module}"
        tensors[f"{name}.lora_A.weight"] = random.normal(size=(4, 16)).astype(np.float32)
        tensors[f"{name}.lora_B.weight"] = random.normal(size=(12, 4)).astype(np.float32)
    (directory / "adapter_model.safetensors").write_bytes(save(tensors))
    (directory / "adapter_config.json").write_text(json.dumps(_ADAPTER_CONFIG))
