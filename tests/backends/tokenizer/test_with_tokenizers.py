"""What is read without transformers equals what transformers reads."""

import json
from pathlib import Path

import pytest

from retrain_backends.tokenizer import Tokenizer, resolve_model
from retrain_backends.tokenizer.with_tokenizers import read_with_tokenizers
from retrain_backends.tokenizer.with_transformers import TransformersCodec
from retrain_test_support.tokenizers import (
    byte_level,
    qwen,
    save_tokenizer,
    sentencepiece,
    unigram,
    word_piece,
)

TEXTS = (
    "",
    "let me see.",
    "  Let me  verify,\n\n1 + 1 = 2? ",
    "é ∑ \N{SNOWMAN} e\N{COMBINING ACUTE ACCENT} \tx",
    "<|user|>let me<|end|> <s>",
    "what is it's me?",
)
CHAT = (
    "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{{ eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{{ thinking }}{% endif %}"
)


def assert_equal(directory):
    """The two ways to read a directory agree in everything that a run asks for."""
    ours, theirs = read_with_tokenizers(Path(directory)), TransformersCodec(Path(directory))
    assert ours is not None
    assert len(ours) == len(theirs)
    assert ours.eos_token_id == theirs.eos_token_id
    assert ours.chat_template == theirs.chat_template
    for text in TEXTS:
        for special in (False, True):
            ids = theirs.encode(text, add_special_tokens=special)
            assert ours.encode(text, add_special_tokens=special) == ids
            for skip in (False, True):
                expected = theirs.decode(ids, skip_special_tokens=skip)
                assert ours.decode(ids, skip_special_tokens=skip) == expected
        if theirs.chat_template:
            messages = [{"role": "user", "content": text}]
            for given in ({}, {"thinking": False}, {"thinking": "low"}):
                expected = theirs.render_chat(messages, given)
                assert ours.render_chat(messages, given) == expected
    assert tokens_of(ours) == tokens_of(theirs)


def tokens_of(codec):
    tokenizer = Tokenizer(codec, (), "model")
    every = tokenizer.token_texts(list(range(len(codec) + 1)))
    return every, [tokenizer.encode(text).tolist() for text in TEXTS]


def edit(path, changes):
    """Change keys of a JSON file; None removes one."""
    table = json.loads(path.read_text()) if path.exists() else {}
    table = {k: v for k, v in {**table, **changes}.items() if v is not None}
    path.write_text(json.dumps(table))


@pytest.mark.parametrize("make", [byte_level, sentencepiece, unigram, word_piece, qwen])
@pytest.mark.parametrize("chat", [None, CHAT], ids=["plain", "chat"])
def test_kinds_of_tokenizers(tmp_path, make, chat):
    assert_equal(save_tokenizer(make(), tmp_path, chat=chat, trailing=("<|end|>",)))


def test_the_built_in_model():
    assert_equal(resolve_model("builtin:tiny-arithmetic"))


@pytest.mark.parametrize("kind", ["qwen2", "qwen3"])
@pytest.mark.parametrize("listed", [False, True], ids=["new", "old"])
def test_tokenizers_of_qwen(tmp_path, kind, listed):
    tokenizer = qwen()
    save_tokenizer(tokenizer, tmp_path, chat=CHAT, leading=())
    edit(tmp_path / "config.json", {"model_type": kind})
    added = {
        index: {**token.__getstate__()}
        for index, token in tokenizer.get_added_tokens_decoder().items()
    }
    edit(
        tmp_path / "tokenizer_config.json",
        {
            "tokenizer_class": "Qwen2Tokenizer",
            "added_tokens_decoder": added if listed else None,
            "unk_token": "<|eot|>",
            "pad_token": "<|eot|>",
        },
    )
    assert_equal(tmp_path)


def test_a_class_of_llama_with_a_byte_level_file(tmp_path):
    save_tokenizer(byte_level(), tmp_path, chat=CHAT)
    edit(tmp_path / "config.json", {"model_type": "llama"})
    edit(tmp_path / "tokenizer_config.json", {"tokenizer_class": "LlamaTokenizerFast"})
    assert_equal(tmp_path)


def test_special_tokens_in_a_file_of_their_own(tmp_path):
    save_tokenizer(byte_level(), tmp_path, chat=CHAT)
    token = {"content": "<|eot|>", "lstrip": False, "normalized": False, "rstrip": False}
    edit(tmp_path / "special_tokens_map.json", {"eos_token": token, "image_token": "<|user|>"})
    assert_equal(tmp_path)
    assert read_with_tokenizers(tmp_path).eos_token_id == TransformersCodec(tmp_path).eos_token_id


def test_special_tokens_with_properties(tmp_path):
    save_tokenizer(byte_level(), tmp_path, chat=CHAT)
    changes = {
        "eos_token": {"__type": "AddedToken", "content": "<|eot|>", "normalized": False},
        "add_bos_token": True,
        "bos_token": None,
        "additional_special_tokens": ["<|user|>"],
    }
    edit(tmp_path / "tokenizer_config.json", changes)
    assert_equal(tmp_path)


@pytest.mark.parametrize("named", [{"default": CHAT, "tool_use": "no"}, CHAT])
def test_chat_templates_in_the_configuration(tmp_path, named):
    save_tokenizer(byte_level(), tmp_path)
    several = named
    if isinstance(named, dict):
        several = [{"name": name, "template": text} for name, text in named.items()]
    edit(tmp_path / "tokenizer_config.json", {"chat_template": several})
    assert_equal(tmp_path)


def test_a_chat_template_in_a_file_counts_first(tmp_path):
    save_tokenizer(byte_level(), tmp_path, chat=CHAT)
    edit(tmp_path / "tokenizer_config.json", {"chat_template": "not this one"})
    assert_equal(tmp_path)


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("tokenizer_config.json", {"tokenizer_class": "GPT2Tokenizer"}),
        ("tokenizer_config.json", {"tokenizer_class": None}),
        ("tokenizer_config.json", {"tokenizer_class": "Qwen2Tokenizer"}),
        ("tokenizer_config.json", {"split_special_tokens": True}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["a.B", None]}}),
        ("tokenizer_config.json", {"pad_token": "<|new|>"}),
        ("tokenizer_config.json", {"extra_special_tokens": ["<|new|>"]}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"1": {"content": "<|new|>"}}}),
        ("tokenizer_config.json", {"chat_template": {"other": "no default"}}),
        ("tokenizer.json", {"truncation": {
            "direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0
        }}),
        ("added_tokens.json", {"<|new|>": 1000}),
        ("config.json", {"model_type": "qwen2"}),
        ("tekken.json", {}),
    ],
)  # fmt: skip
def test_what_transformers_would_change_is_left_to_it(tmp_path, file, changes):
    save_tokenizer(byte_level(), tmp_path)
    assert read_with_tokenizers(tmp_path) is not None
    edit(tmp_path / file, changes)
    assert read_with_tokenizers(tmp_path) is None


def test_a_directory_without_the_file(tmp_path):
    assert read_with_tokenizers(tmp_path) is None
