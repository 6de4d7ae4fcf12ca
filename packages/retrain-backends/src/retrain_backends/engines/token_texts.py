"""The tokenizer of the trained model, for servers that take or return texts."""

from collections.abc import Sequence
from typing import Protocol

from retrain_backends.types import Tokens


class TokenTexts(Protocol):
    """What servers need of a tokenizer."""

    def exact_text(self, ids: Tokens) -> str | None:
        """The text that encodes to exactly these tokens; None if there is none."""
        ...

    def exact_ids(self, texts: Sequence[str]) -> list[int]:
        """The ids of the texts of single tokens.

        Raises:
          ValueError: a text is that of no token, or of several.
        """
        ...

    def decode(self, ids: Tokens) -> str:
        """The text of tokens, for messages."""
        ...
