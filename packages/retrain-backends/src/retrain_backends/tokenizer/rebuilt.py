"""Tokenizers that transformers rebuilds from the vocabulary and merges of `tokenizer.json`.

Everything else is defined by the code of their class. If the rest of the file agrees with it, the
file can be used as it is.
"""

import json
from collections.abc import Mapping
from typing import Any

from tokenizers import Tokenizer, models

from retrain_backends.tokenizer.special_tokens import SpecialTokens

_END = "<|endoftext|>"
_QWEN_DEFAULTS = {"unk_token": _END, "eos_token": _END, "pad_token": _END}

# Special tokens that a class has by default.
DEFAULT_TOKENS: Mapping[str, Mapping[str, str]] = {
    "Qwen2Tokenizer": _QWEN_DEFAULTS,
    "Qwen2TokenizerFast": _QWEN_DEFAULTS,
    "Qwen3_5Tokenizer": _QWEN_DEFAULTS,
}

_QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN3_5_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_WORDS = {
    "Qwen2Tokenizer": _QWEN2_WORDS,
    "Qwen2TokenizerFast": _QWEN2_WORDS,
    "Qwen3_5Tokenizer": _QWEN3_5_WORDS,
}


def is_as_rebuilt(name: str, tokenizer: Tokenizer, special: SpecialTokens) -> bool:
    """Whether a tokenizer equals the one that transformers would rebuild from its vocabulary.

    Args:
      name: of the class, a key of `DEFAULT_TOKENS`.
      tokenizer: read from `tokenizer.json`.
      special: the special tokens, all of which the tokenizer has.
    """
    added = tokenizer.get_added_tokens_decoder()
    texts = {*special.named.values(), *special.others}
    return (
        _is_plain_bpe(tokenizer.model)
        and _state(tokenizer.decoder).get("type") == "ByteLevel"
        and _state(tokenizer.normalizer) == {"type": "NFC"}
        and _splits(_state(tokenizer.pre_tokenizer), _WORDS[name])
        and (not special.added or {i: repr(t) for i, t in special.added.items()} == _reprs(added))
        and all(_is_plain(token) for token in added.values() if token.content in texts)
    )


def _is_plain_bpe(model: Any) -> bool:
    return (
        isinstance(model, models.BPE)
        and not (model.dropout or model.unk_token or model.fuse_unk)
        and not (model.byte_fallback or model.ignore_merges)
        and not (model.continuing_subword_prefix or model.end_of_word_suffix)
    )


def _splits(state: Mapping[str, Any], words: str) -> bool:
    """Whether a text is split into the words of a regular expression, then into bytes."""
    split, *rest = state.get("pretokenizers", [{}])
    return (
        split
        == {"type": "Split", "pattern": {"Regex": words}, "behavior": "Isolated", "invert": False}
        and len(rest) == 1
        and rest[0]["type"] == "ByteLevel"
        and not rest[0]["add_prefix_space"]
        and not rest[0]["use_regex"]
    )


def _is_plain(token: Any) -> bool:
    return token.special and not (
        token.normalized or token.lstrip or token.rstrip or token.single_word
    )


def _state(part: Any) -> Mapping[str, Any]:
    """A part of a tokenizer as in `tokenizer.json`; empty if it is missing."""
    return json.loads(part.__getstate__()) if part else {}


def _reprs(tokens: Mapping[int, Any]) -> dict[int, str]:
    return {index: repr(token) for index, token in tokens.items()}
