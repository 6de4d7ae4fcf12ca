"""The special tokens in the configuration files of a tokenizer."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken, Tokenizer

# Keys whose value is a list or a table.
_LISTS = ("extra_special_tokens", "additional_special_tokens")


@dataclass(frozen=True)
class SpecialTokens:
    """The special tokens of a tokenizer.

    Args:
      named: text by role, such as `bos_token`.
      others: texts of special tokens without a role.
      added: added tokens by id, if the configuration lists them.
    """

    named: Mapping[str, str]
    others: tuple[str, ...]
    added: Mapping[int, AddedToken]

    def all_in(self, tokenizer: Tokenizer) -> bool:
        """Whether the tokenizer has all of these tokens already."""
        known = {repr(token) for token in tokenizer.get_added_tokens_decoder().values()}
        texts = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
        return texts >= {*self.named.values(), *self.others} and known >= {
            repr(token) for token in self.added.values()
        }


def read_special_tokens(
    config: Mapping[str, Any], older: Mapping[str, Any], defaults: Mapping[str, str]
) -> SpecialTokens:
    """Read the special tokens of a tokenizer.

    Args:
      config: content of `tokenizer_config.json`.
      older: content of `special_tokens_map.json`, used if `config` lists no added tokens.
      defaults: named tokens of the tokenizer's class.

    Raises:
      ValueError, TypeError: a value does not have the format of transformers.
    """
    added = {
        int(index): AddedToken(**token)
        for index, token in config.get("added_tokens_decoder", {}).items()
    }
    tables = [defaults, config, *([] if "added_tokens_decoder" in config else [older])]
    named: dict[str, str] = {}
    others: list[str] = []
    for key, value in ((key, value) for table in tables for key, value in table.items()):
        if key in _LISTS and isinstance(value, list):
            others += filter(None, map(_text, value))
        elif key in _LISTS and isinstance(value, dict):
            named.update(_named(value))
        elif key.endswith("_token"):
            named.pop(key, None)
            named.update(_named({key: value}))
    return SpecialTokens(named, tuple(others), added)


def _named(table: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        text = _text(value)
        if text is not None:
            yield key, text


def _text(value: object) -> str | None:
    """The text of a token, given as a string or as a table with its properties."""
    if isinstance(value, dict):
        return str(value["content"])
    return value if isinstance(value, str) else None
