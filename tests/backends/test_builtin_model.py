import json
import struct
from pathlib import Path

import numpy as np
import pytest

from retrain_backends.boxed import extract_boxed
from retrain_backends.config import RunConfig, load_config
from retrain_backends.config.task import DEFAULT_TEMPLATE
from retrain_backends.data.arithmetic import ArithmeticExamples
from retrain_backends.planning import build_detector
from retrain_backends.randomness import Purpose
from retrain_backends.testing import GroupSampling
from retrain_backends.tokenizer import Tokenizer, load_tokenizer, resolve_model
from retrain_backends.types import SamplingParams

NAME = "builtin:tiny-arithmetic"
PRINTABLE = "".join(map(chr, range(32, 127))) + "\n"


@pytest.fixture(scope="module")
def directory() -> Path:
    return Path(resolve_model(NAME))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer(NAME)


def test_weights_are_a_small_bf16_qwen3(directory):
    config = json.loads((directory / "config.json").read_text())
    assert config["model_type"] == "qwen3"
    weights = directory / "model.safetensors"
    assert weights.stat().st_size < 2_000_000
    with weights.open("rb") as file:
        header = json.loads(file.read(*struct.unpack("<Q", file.read(8))))
    tensors = [value for key, value in header.items() if key != "__metadata__"]
    assert {tensor["dtype"] for tensor in tensors} == {"BF16"}
    assert 700_000 < sum(np.prod(tensor["shape"]) for tensor in tensors) < 900_000


def test_log_of_the_pretraining_leaves_room_to_learn(directory):
    report = json.loads((directory / "pretraining.json").read_text())
    assert report["log"][-1]["loss"] < report["log"][0]["loss"]
    held_out = report["held_out"]
    assert 0.35 < held_out["bare prompt, sampled"]["accuracy"] < 0.5
    assert held_out["bare prompt, greedy"]["accuracy"] < 0.7


@pytest.mark.parametrize("text", [PRINTABLE, "let me think: 15 8 \\boxed{85}", "letter to user"])
def test_printable_text_comes_back(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert "".join(tokenizer.token_texts(ids)) == text


def test_prompt_is_chatml_that_ends_where_the_answer_begins(tokenizer):
    text = tokenizer.render("What is 2 + 33?", "{question}")
    assert text == ("<|im_start|>user\nWhat is 2 + 33?<|im_end|>\n<|im_start|>assistant\n")
    assert tokenizer.token_texts(tokenizer.encode("<|im_end|>")) == ["<|im_end|>"]


def test_stops_at_the_end_of_its_turn(tokenizer):
    assert tokenizer.stop_token_ids == tuple(tokenizer.encode("<|im_end|>"))


def test_default_prompt_is_short(tokenizer):
    assert len(tokenizer.encode(tokenizer.render("What is 347 + 85?", DEFAULT_TEMPLATE))) < 50


def test_working_is_planning(tokenizer):
    texts = tokenizer.token_texts(tokenizer.encode("let me think: 15 8 \\boxed{85}"))
    [mask] = build_detector(RunConfig().planning, "").masks([texts])
    assert [text for text, plans in zip(texts, mask, strict=True) if plans] == [
        "let",
        " me",
        " think",
    ]


@pytest.mark.parametrize("template", ["{question}", DEFAULT_TEMPLATE])
def test_answers_some_held_out_questions(tokenizer, template):
    pytest.importorskip("torch")
    backend_module = pytest.importorskip("retrain_backends.local.backend")
    config = load_config(None, {"model.model": NAME, "training.seed": 0, "backend.devices": "cpu"})
    backend = backend_module.LocalBackend.from_config(config.policy())
    examples = ArithmeticExamples(0, "test")[:128]
    prompts = [tokenizer.encode(tokenizer.render(e.question, template)) for e in examples]

    def accuracy(temperature: float) -> float:
        params = SamplingParams(temperature, tokenizer.stop_token_ids)
        sampling = GroupSampling(0, 1, 32, params)
        groups = sampling.sample(backend.sampler, prompts, Purpose.EVALUATE)
        answers = [extract_boxed(tokenizer.decode(group[0].tokens_T)) for group in groups]
        return float(np.mean([a == e.reference for a, e in zip(answers, examples, strict=True)]))

    assert 0.25 < accuracy(1.0) < 0.55
    assert 0.1 < accuracy(0.0) < 0.7
