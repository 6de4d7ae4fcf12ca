"""Read common tokenizers from `tokenizer.json` without transformers.

transformers takes seconds to import, and loads most tokenizers from this file unchanged. Such files
are read here; every other tokenizer is read by transformers (`with_transformers.py`).
"""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import Template
from tokenizers import Tokenizer

from retrain_backends.tokenizer.chat_template import compile_chat_template, render_chat
from retrain_backends.tokenizer.model_files import read_table
from retrain_backends.tokenizer.rebuilt import DEFAULT_TOKENS, is_as_rebuilt
from retrain_backends.tokenizer.special_tokens import SpecialTokens, read_special_tokens

_TOKENIZER_FILE = "tokenizer.json"
_READ = ("config.json", "special_tokens_map.json", "tokenizer_config.json")
_TEMPLATE_FILE = "chat_template.jinja"
_MORE_TEMPLATES = "additional_chat_templates"

# transformers loads `tokenizer.json` unchanged for these classes.
_VERBATIM = ("TokenizersBackend", "PreTrainedTokenizerFast")
# And for these, if the file has byte-level BPE.
_VERBATIM_IF_BYTE_LEVEL = ("LlamaTokenizer", "LlamaTokenizerFast")
_CLASSES = (*_VERBATIM, *_VERBATIM_IF_BYTE_LEVEL, *DEFAULT_TOKENS)

# For these types of models, transformers ignores the declared class and uses this one.
_CLASS_OF_TYPE = {
    "hyperclovax_vision_v2": "GPT2Tokenizer",
    "qwen2": "Qwen2Tokenizer",
    "qwen3_5": "Qwen3_5Tokenizer",
    "qwen3_5_moe": "Qwen3_5Tokenizer",
    "qwen3_5_moe_text": "Qwen3_5Tokenizer",
    "qwen4_exp": "Qwen3_5Tokenizer",
    "siglip2": "Siglip2Tokenizer",
}

# Keys of tokenizer_config.json that make transformers modify the tokenizer.
_UNUSUAL_KEYS = (
    *("add_prefix_space", "auto_map", "fast_tokenizer_files", "fix_mistral_regex", "gguf_file"),
    *("merges", "post_processor", "split_special_tokens", "tokenizer_object"),
    *("tokenizer_padding", "tokenizer_truncation", "vocab"),
)


class TokenizersCodec:
    """A tokenizer of the package `tokenizers`, with chat template and special tokens."""

    def __init__(self, tokenizer: Tokenizer, special: Mapping[str, str], template: str) -> None:
        self._tokenizer = tokenizer
        self._special = special
        self.eos_token_id = tokenizer.token_to_id(special.get("eos_token", ""))
        self.chat_template = template

    def __len__(self) -> int:
        return self._tokenizer.get_vocab_size(with_added_tokens=True)

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """The ids of a text's tokens."""
        return self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids

    def decode(self, ids: list[int], *, skip_special_tokens: bool) -> str:
        """The text of tokens."""
        return self._tokenizer.decode(ids, skip_special_tokens=skip_special_tokens)

    def render_chat(self, messages: list[dict[str, str]], variables: Mapping[str, Any]) -> str:
        """The text of a conversation, up to the start of the answer."""
        return render_chat(self._compiled, messages, {**self._special, **variables})

    @cached_property
    def _compiled(self) -> Template:
        return compile_chat_template(self.chat_template)


def read_with_tokenizers(directory: Path) -> TokenizersCodec | None:
    """The tokenizer in a directory; None if transformers might read it differently."""
    files = {name: read_table(directory / name) for name in _READ}
    config = files["tokenizer_config.json"]
    name = _class_name(config, files["config.json"])
    template = _chat_template(directory, config)
    if template is None or name not in _CLASSES or _is_unusual(directory, files):
        return None
    tokenizer = Tokenizer.from_file(str(directory / _TOKENIZER_FILE))
    special = read_special_tokens(
        config, files["special_tokens_map.json"], DEFAULT_TOKENS.get(name, {})
    )
    if not _is_as_in_transformers(name, tokenizer, special):
        return None
    return TokenizersCodec(tokenizer, special.named, template)


def _class_name(config: Mapping[str, Any], model: Mapping[str, Any]) -> str:
    """The class with which transformers reads the directory."""
    declared = str(config.get("tokenizer_class"))
    kind = str(model.get("model_type", ""))
    if declared in DEFAULT_TOKENS and not kind.startswith("qwen"):
        return ""  # for other types transformers may use the declared class
    return _CLASS_OF_TYPE.get(kind, declared)


def _is_unusual(directory: Path, files: Mapping[str, Mapping[str, Any]]) -> bool:
    config = files["tokenizer_config.json"]
    return (
        not (directory / _TOKENIZER_FILE).is_file()
        or any(config.get(key) for key in _UNUSUAL_KEYS)
        or "model_name" in files["config.json"]
        or (directory / "tekken.json").exists()
        or ((directory / "added_tokens.json").exists() and "added_tokens_decoder" not in config)
    )


def _is_as_in_transformers(name: str, tokenizer: Tokenizer, special: SpecialTokens) -> bool:
    if tokenizer.truncation or tokenizer.padding or not special.all_in(tokenizer):
        return False
    if name in _VERBATIM_IF_BYTE_LEVEL:
        return "ByteLevel" in repr(tokenizer.pre_tokenizer)
    return name in _VERBATIM or is_as_rebuilt(name, tokenizer, special)


def _chat_template(directory: Path, config: Mapping[str, Any]) -> str | None:
    """The chat template, empty if there is none; None if transformers has to choose one."""
    if (directory / _MORE_TEMPLATES).is_dir():
        return None
    file = directory / _TEMPLATE_FILE
    found = file.read_text("utf-8") if file.is_file() else config.get("chat_template") or ""
    if isinstance(found, list):
        found = {entry["name"]: entry["template"] for entry in found}
    if isinstance(found, dict):
        found = found.get("default")
    return found if isinstance(found, str) else None
