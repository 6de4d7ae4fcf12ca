import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from retrain_backends.config import RunConfig, load_config

SYMBOLS = ["<end>", "<unknown>", *"0123456789", " "]


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory) -> Path:
    """A directory with a tokenizer of one symbol a token, and no model."""
    tokenizer = Tokenizer(
        models.WordLevel({symbol: index for index, symbol in enumerate(SYMBOLS)}, "<unknown>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    directory = tmp_path_factory.mktemp("model")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<end>", unk_token="<unknown>"
    ).save_pretrained(str(directory))
    return directory


@pytest.fixture(scope="session")
def chat_model_dir(model_dir, tmp_path_factory) -> str:
    """As `model_dir`, with a chat template that has the variable `mood`."""
    directory = tmp_path_factory.mktemp("chat")
    shutil.copytree(model_dir, directory, dirs_exist_ok=True)
    template = "{% for m in messages %}{{ m.content }}{% endfor %}{{ 9 if mood == 'low' else 8 }}"
    (directory / "chat_template.jinja").write_text(template)
    return str(directory)


@pytest.fixture
def make_config(model_dir, tmp_path) -> Callable[..., RunConfig]:
    """Quick runs on the fake backend, whose task is to repeat the digit of the question."""
    data = tmp_path / "digits.jsonl"
    rows = [{"question": str(digit), "answer": str(digit)} for digit in range(4)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    defaults = {
        "backend.backend": "fake",
        "backend.options": {"vocab_size": len(SYMBOLS), "positions": 2},
        "model.model": str(model_dir),
        "training.seed": 5,
        "training.max_steps": 4,
        "training.batch_size": 2,
        "training.group_size": 8,
        "training.max_tokens": 3,
        "training.temperature": 1.0,
        "training.lr": 0.5,
        "data.source": "jsonl",
        "data.path": str(data),
        "data.prompt_template": "{question}",
        "logging.log_dir": str(tmp_path / "run"),
        "logging.learning_curve": False,
    }

    def make(overrides: dict[str, object] | None = None) -> RunConfig:
        return load_config(None, {**defaults, **(overrides or {})})

    return make
