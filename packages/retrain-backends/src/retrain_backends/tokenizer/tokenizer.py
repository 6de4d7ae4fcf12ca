"""A model's tokenizer, as a run uses it."""

from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt
from jinja2 import TemplateError

from retrain_backends.errors import ModelError, describe
from retrain_backends.types import Tokens


class Codec(Protocol):
    """A tokenizer of some library. `len` is the number of tokens, special ones included."""

    eos_token_id: int | None
    has_chat_template: bool

    def __len__(self) -> int: ...

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """The ids of a text's tokens."""
        ...

    def decode(self, ids: list[int], *, skip_special_tokens: bool) -> str:
        """The text of tokens."""
        ...

    def render_chat(self, messages: list[dict[str, str]]) -> str:
        """The text of a conversation, up to where the answer begins.

        Raises:
          TemplateError, ValueError, TypeError: the chat template fails.
        """
        ...


class Tokenizer:
    """A model's tokenizer, its chat template and its stop tokens.

    Args:
      codec: the tokenizer of a library.
      stop_token_ids: tokens that end a completion, at least one.
      name: the model's name, for error messages.
    """

    def __init__(self, codec: Codec, stop_token_ids: tuple[int, ...], name: str) -> None:
        self._codec = codec
        self._name = name
        # A chat template writes the beginning-of-text token itself.
        self._prefix = () if codec.has_chat_template else _leading_special_tokens(codec)
        self.stop_token_ids = stop_token_ids

    @property
    def vocabulary_size(self) -> int:
        """Number of tokens, special ones included; a model may have room for more."""
        return len(self._codec)

    def render(self, question: str, template: str) -> str:
        """The prompt's text.

        Args:
          question: put in place of `{question}` in the template; other braces stay as they are.
          template: the prompt template.

        Returns:
          The filled template as a user's message of the model's chat template, up to where the
          answer begins; just the filled template for a model without a chat template.

        Raises:
          ModelError: the chat template fails.
        """
        text = template.replace("{question}", question)
        if not self._codec.has_chat_template:
            return text
        message = {"role": "user", "content": text}
        # A border: a template is a program that came with the model.
        try:
            return self._codec.render_chat([message])
        except (TemplateError, ValueError, TypeError) as error:
            raise ModelError(
                f"model.model: the chat template of `{self._name}` fails: {describe(error)}"
            ) from error

    def encode(self, text: str) -> Tokens:
        """The tokens of a prompt's text, shape [T].

        Special tokens that the text spells out are recognised. For a model without a chat template
        those that its tokenizer puts in front of a text (beginning of text) are added, never one
        that would end it.
        """
        ids = self._codec.encode(text, add_special_tokens=False)
        return np.array([*self._prefix, *ids], dtype=np.int64)

    def decode(self, ids: Sequence[int] | Tokens) -> str:
        """The text of tokens, without special tokens."""
        listed = np.asarray(ids, dtype=np.int64).tolist()
        return self._codec.decode(listed, skip_special_tokens=True)

    def token_texts(self, ids: Sequence[int] | Tokens) -> list[str]:
        """Each token's own text as it stands within a longer text; joined, they are that text.

        A word-boundary marker is a space and a byte-level newline a newline. A token that holds
        part of a character, cut between bytes, is a replacement character; a special token is its
        name; an id beyond the vocabulary is empty.
        """
        known = np.minimum(np.asarray(ids, dtype=np.int64), len(self._vocabulary_texts) - 1)
        return self._vocabulary_texts[known].tolist()

    @cached_property
    def _vocabulary_texts(self) -> npt.NDArray[np.object_]:
        """The text of every token, and an empty one at the end."""
        # Decoders treat the first token of a text in their own ways (some drop its space), so each
        # token is decoded behind another one whose text is then cut off.
        anchor = self._codec.encode("a", add_special_tokens=False)
        ids = [anchor, *([*anchor, token] for token in range(len(self._codec)))]
        texts = [self._codec.decode(pair, skip_special_tokens=False) for pair in ids]
        start = len(texts[0])
        return np.array([*(text[start:] for text in texts[1:]), ""], dtype=object)


def _leading_special_tokens(codec: Codec) -> tuple[int, ...]:
    """What the tokenizer puts before a text by itself."""
    bare = codec.encode("a", add_special_tokens=False)
    full = codec.encode("a", add_special_tokens=True)
    starts = range(len(full) - len(bare) + 1)
    first = next((k for k in starts if full[k : k + len(bare)] == bare), 0)
    return tuple(full[:first])
