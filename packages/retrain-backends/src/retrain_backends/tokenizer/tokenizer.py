"""The tokenizer interface of a run."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import takewhile
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from retrain_backends.errors import ModelError, describe
from retrain_backends.types import Tokens

_PARTIAL = "\N{REPLACEMENT CHARACTER}"  # in the text of a token with part of a character
_LONGEST_PIECE = 8  # tokens; a character has at most four bytes


class Pieces(NamedTuple):
    """The texts of pieces of a completion, and the number of tokens of each."""

    texts: list[str]
    sizes: list[int]


class Codec(Protocol):
    """The tokenizer of a library. `len` is the number of tokens, including special ones.

    `chat_template` is the Jinja source; empty for a model without one.
    """

    eos_token_id: int | None
    chat_template: str

    def __len__(self) -> int: ...

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """The ids of a text's tokens."""
        ...

    def decode(self, ids: list[int], *, skip_special_tokens: bool) -> str:
        """The text of tokens."""
        ...

    def render_chat(self, messages: list[dict[str, str]], variables: Mapping[str, Any]) -> str:
        """The text of a conversation, up to the start of the answer.

        Args:
          messages: with `role` and `content`.
          variables: of the chat template, besides those that every template has.

        Raises:
          Exception: the chat template fails, which is code that comes with the model.
        """
        ...


class Tokenizer:
    """A model's tokenizer, its chat template and its stop tokens.

    Args:
      codec: the tokenizer of a library.
      stop_token_ids: tokens that end a completion, at least one.
      name: the model's name, for error messages.
      chat_variables: variables of the chat template.
      model_vocabulary: number of the model's tokens by its configuration; 0 if unknown. It may be
        larger than the tokenizer's, because many embeddings are padded.
    """

    def __init__(
        self,
        codec: Codec,
        stop_token_ids: tuple[int, ...],
        name: str,
        chat_variables: Mapping[str, Any] = MappingProxyType({}),
        model_vocabulary: int = 0,
    ) -> None:
        self._codec = codec
        self._name = name
        self._chat_variables = chat_variables
        self._leading = _leading_special_tokens(codec)
        # A chat template writes the beginning-of-text token itself.
        self._prefix = () if codec.chat_template else self._leading
        self.stop_token_ids = stop_token_ids
        # Tokens that a model may sample: those of the tokenizer, and padding of the embedding.
        self.vocabulary_size = max(len(codec), model_vocabulary)

    def render(self, question: str, template: str) -> str:
        """The prompt's text.

        Args:
          question: replaces `{question}` in the template; other braces are kept.
          template: the prompt template.

        Returns:
          The filled template as a user message in the model's chat template, up to the start of
          the answer; for a model without a chat template, the filled template alone.

        Raises:
          ModelError: the chat template fails.
        """
        text = template.replace("{question}", question)
        if not self._codec.chat_template:
            return text
        message = {"role": "user", "content": text}
        # A border: the template is code that comes with the model.
        try:
            return self._codec.render_chat([message], self._chat_variables)
        except Exception as error:
            raise ModelError(
                f"model.model: the chat template of `{self._name}` fails: {describe(error)}"
            ) from error

    def encode(self, text: str) -> Tokens:
        """The tokens of a prompt's text, shape [T].

        Special tokens written in the text are recognised. For a model without a chat template, the
        leading special tokens of its tokenizer (beginning of text) are added, but no trailing ones.
        """
        ids = self._codec.encode(text, add_special_tokens=False)
        return np.array([*self._prefix, *ids], dtype=np.int64)

    def decode(self, ids: Sequence[int] | Tokens) -> str:
        """The text of tokens, without special tokens."""
        listed = np.asarray(ids, dtype=np.int64).tolist()
        return self._codec.decode(listed, skip_special_tokens=True)

    def token_texts(self, ids: Sequence[int] | Tokens) -> list[str]:
        """The text of each token inside a longer text; joined, they are that text.

        Word-boundary markers become spaces and byte-level newlines become newlines. A token with
        part of a character is a replacement character, a special token is its name, and an id
        beyond the vocabulary is empty.
        """
        known = np.minimum(np.asarray(ids, dtype=np.int64), len(self._vocabulary_texts) - 1)
        return self._vocabulary_texts[known].tolist()

    def exact_text(self, ids: Sequence[int] | Tokens) -> str | None:
        """The text that encodes to exactly these tokens; None if there is none.

        Encoding adds the tokenizer's special tokens, as inference servers do, so the text lacks
        those at its start.
        """
        listed = np.asarray(ids, dtype=np.int64).tolist()
        added = len(self._leading)
        rest = listed[added:] if tuple(listed[:added]) == self._leading else listed
        text = self._codec.decode(rest, skip_special_tokens=False)
        return text if self._codec.encode(text, add_special_tokens=True) == listed else None

    def exact_ids(self, texts: Sequence[str]) -> list[int]:
        """The ids of the texts of single tokens.

        A token may have one text alone and another inside a longer text (without and with a space
        before it), and which of them a service means is unknown; both must belong to no other.

        Raises:
          ValueError: a text is that of no token, or of several.
        """
        for text in texts:
            if text not in self._ids_by_text:
                known = (
                    "several tokens" if text in self._vocabulary_texts[:-1] else "no single token"
                )
                raise ValueError(f"the text {text!r} is that of {known} of `{self._name}`")
        return [self._ids_by_text[text] for text in texts]

    @cached_property
    def _ids_by_text(self) -> dict[str, int]:
        """The token of every text that only one token has."""
        ids: dict[str, set[int]] = {}
        for token, text in enumerate(self._vocabulary_texts[:-1]):
            alone = self._codec.decode([token], skip_special_tokens=False)
            for known in {text, alone}:
                ids.setdefault(known, set()).add(token)
        return {text: found.pop() for text, found in ids.items() if len(found) == 1}

    def pieces(self, ids: Sequence[int] | Tokens) -> Pieces:
        """The text of tokens in pieces of whole characters.

        A piece is the text of one token as in `token_texts`, or of several that share a character.
        """
        listed = np.asarray(ids, dtype=np.int64).tolist()
        texts = self.token_texts(listed)
        if _PARTIAL not in "".join(texts):
            return Pieces(texts, [1] * len(texts))
        pieces = Pieces([], [])
        start = 0
        while start < len(texts):
            stop = start + _LONGEST_PIECE
            text, size = self._piece(texts[start:stop], listed[start:stop])
            pieces.texts.append(text)
            pieces.sizes.append(size)
            start += size
        return pieces

    def _piece(self, texts: Sequence[str], ids: list[int]) -> tuple[str, int]:
        """The text of the fewest leading tokens that are whole characters, and their number."""
        partial = list(takewhile(lambda text: _PARTIAL in text, texts))
        for size in range(2, len(partial) + 1):
            text = self._decode_inside(ids[:size])
            if _PARTIAL not in text:
                return text, size
        return texts[0], 1

    def _decode_inside(self, ids: Sequence[int]) -> str:
        """The text of tokens inside a longer text.

        Some decoders treat the first token of a text differently (and drop its space), so they are
        decoded after another token, whose text is removed.
        """
        anchor, text = self._anchor
        return self._codec.decode([*anchor, *ids], skip_special_tokens=False)[len(text) :]

    @cached_property
    def _anchor(self) -> tuple[list[int], str]:
        ids = self._codec.encode("a", add_special_tokens=False)
        return ids, self._codec.decode(ids, skip_special_tokens=False)

    @cached_property
    def _vocabulary_texts(self) -> npt.NDArray[np.object_]:
        """The text of every token, followed by an empty text."""
        texts = [self._decode_inside([token]) for token in range(len(self._codec))]
        return np.array([*texts, ""], dtype=object)


def _leading_special_tokens(codec: Codec) -> tuple[int, ...]:
    """The special tokens that the tokenizer inserts before a text."""
    bare = codec.encode("a", add_special_tokens=False)
    full = codec.encode("a", add_special_tokens=True)
    starts = range(len(full) - len(bare) + 1)
    first = next((k for k in starts if full[k : k + len(bare)] == bare), 0)
    return tuple(full[:first])
