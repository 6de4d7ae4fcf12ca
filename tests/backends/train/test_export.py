import json

import pytest

pytest.importorskip("torch")

import torch
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM, AutoTokenizer

from retrain_backends.config import load_config
from retrain_backends.errors import ConfigError, ModelError
from retrain_backends.tokenizer import load_tokenizer
from retrain_backends.train import train
from retrain_backends.train.export import export_merged

from ..local.test_run import QUICKSTART

TOKENS = torch.tensor([[1, 4, 22, 7, 30, 2]])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The directory of a run that has trained."""
    settings = {
        "training.max_steps": 2,
        "training.batch_size": 3,
        "training.group_size": 6,
        "training.lr": 0.01,
        "eval.every": 0,
        "logging.learning_curve": False,
        "logging.log_dir": str(tmp_path_factory.mktemp("export") / "run"),
    }
    return train(load_config(QUICKSTART, settings)).run_dir


@torch.no_grad()
def logits(model):
    return model.eval().float()(TOKENS).logits


def test_peft_finds_the_base_model_and_the_tokenizer_of_an_adapter(finished):
    adapted = AutoPeftModelForCausalLM.from_pretrained(finished / "final")
    assert adapted.peft_config["default"].r == 16
    text = "12 + 34 = ?"
    ours = load_tokenizer("builtin:tiny-arithmetic").encode(text).tolist()
    assert AutoTokenizer.from_pretrained(finished / "final")(text).input_ids == ours


@pytest.mark.parametrize("source", [".", "final"])
def test_the_merged_model_is_the_adapted_one(finished, tmp_path, source):
    merged = export_merged(finished / source, tmp_path / "merged")
    model = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32)
    adapted = AutoPeftModelForCausalLM.from_pretrained(finished / "final", dtype=torch.float32)
    base = adapted.peft_config["default"].base_model_name_or_path
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    assert torch.allclose(logits(model), logits(adapted), atol=0.05)
    moved = (logits(adapted) - logits(plain)).abs().mean()
    assert (logits(model) - logits(adapted)).abs().mean() < moved / 10
    assert AutoTokenizer.from_pretrained(merged).chat_template


def test_what_cannot_be_exported_is_one_line(finished, tmp_path):
    with pytest.raises(ConfigError, match=r"is no adapter: neither it nor its final/ has an adap"):
        export_merged(tmp_path, tmp_path / "merged")
    with pytest.raises(ConfigError, match=r"--merge: .* exists; name a new directory"):
        export_merged(finished, finished)
    with pytest.raises(ModelError, match=r"model\.model: there is no directory"):
        export_merged(finished, tmp_path / "merged", base="./nowhere")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    with pytest.raises(ModelError, match="names no base model; name it with --base"):
        export_merged(tmp_path, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
