"""Text to tokens and back, for the model that a run trains."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

# transformers imports torch where it is installed, and torch reads the first of these once: idle
# OpenMP threads that spin make a busy machine ten times slower. Where torch is not installed
# transformers says so on every import, which is no news to a machine that trains elsewhere.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from jinja2 import TemplateError
from transformers import AutoTokenizer

from retrain_backends.config import did_you_mean
from retrain_backends.errors import ModelError, RetrainError, describe
from retrain_backends.types import Tokens

BUILTIN = "builtin:"

# All that a tokenizer may consist of, and the small configuration files beside it; no weights.
_FILES = ["*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken"]


class Tokenizer:
    """A model's tokenizer, its chat template and its stop tokens.

    Args:
      tokenizer: a tokenizer of transformers.
      stop_token_ids: tokens that end a completion, at least one.
      name: the model's name, for error messages.
    """

    def __init__(self, tokenizer: Any, stop_token_ids: tuple[int, ...], name: str) -> None:
        self._tokenizer = tokenizer
        self._name = name
        self._has_chat_template = bool(tokenizer.chat_template)
        # A chat template writes the beginning-of-text token itself.
        self._prefix = () if self._has_chat_template else _leading_special_tokens(tokenizer)
        self.stop_token_ids = stop_token_ids

    @property
    def vocabulary_size(self) -> int:
        """Number of tokens, special ones included; a model may have room for more."""
        return len(self._tokenizer)

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
        if not self._has_chat_template:
            return text
        message = {"role": "user", "content": text}
        # A border: a template is a program that came with the model.
        try:
            return self._tokenizer.apply_chat_template(
                [message], tokenize=False, add_generation_prompt=True
            )
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
        ids = self._tokenizer.encode(text, add_special_tokens=False)
        return np.array([*self._prefix, *ids], dtype=np.int64)

    def decode(self, ids: Sequence[int] | Tokens) -> str:
        """The text of tokens, without special tokens."""
        return self._tokenizer.decode(
            np.asarray(ids, dtype=np.int64).tolist(),
            skip_special_tokens=True,
            clean_up_tokenization_spaces=False,
        )

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
        anchor = self._tokenizer.encode("a", add_special_tokens=False)
        pairs = [[*anchor, token] for token in range(len(self._tokenizer))]
        texts = self._decode_raw([anchor, *pairs])
        start = len(texts[0])
        return np.array([*(text[start:] for text in texts[1:]), ""], dtype=object)

    def _decode_raw(self, sequences: list[list[int]]) -> list[str]:
        return self._tokenizer.batch_decode(
            sequences, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )


def resolve_model(model: str) -> str:
    """Where a model's files are: a path for `builtin:<name>`, else the name itself.

    Raises:
      ModelError: there is no such built-in model.
    """
    if not model.startswith(BUILTIN):
        return model
    shipped = Path(str(files("retrain_backends"))) / "models"
    directory = shipped / model.removeprefix(BUILTIN)
    names = sorted(f"{BUILTIN}{entry.parent.name}" for entry in shipped.glob("*/config.json"))
    if model not in names:
        raise ModelError(
            f"model.model: there is no `{model}`; built in: {', '.join(names) or 'none'}"
            + did_you_mean(model, names, "`{}`")
        )
    return str(directory)


def load_tokenizer(model: str) -> Tokenizer:
    """The tokenizer of a built-in model, a local directory or a model of the Hugging Face hub.

    Raises:
      ModelError: no such model, no access, no network and no cached copy, no usable tokenizer, or
        no token that ends a text.
    """
    directory = _directory(model)
    with _reading(model):
        tokenizer = AutoTokenizer.from_pretrained(directory)
        stops = _stop_token_ids(tokenizer, directory)
    if not stops:
        raise ModelError(
            f"model.model: `{model}` names no token that ends a text, so no completion would stop;"
            " set eos_token in its tokenizer_config.json or eos_token_id in generation_config.json"
        )
    return Tokenizer(tokenizer, stops, model)


def _directory(model: str) -> Path:
    """The directory with the tokenizer's files, fetched into the hub's cache if need be."""
    resolved = resolve_model(model)
    local = Path(resolved).expanduser()
    if local.is_dir():
        return local
    if resolved.startswith((".", "/", "~")) or resolved.count("/") > 1:
        raise ModelError(f"model.model: there is no directory `{model}`")
    with _reading(model):
        return Path(snapshot_download(resolved, allow_patterns=_FILES))


def _stop_token_ids(tokenizer: Any, directory: Path) -> tuple[int, ...]:
    """The tokenizer's end of text and those of `generation_config.json`, ascending."""
    file = directory / "generation_config.json"
    generation: Mapping[str, Any] = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    listed = generation.get("eos_token_id")
    listed = listed if isinstance(listed, list) else [listed]
    return tuple(sorted({i for i in (tokenizer.eos_token_id, *listed) if i is not None}))


def _leading_special_tokens(tokenizer: Any) -> tuple[int, ...]:
    """What the tokenizer puts before a text by itself."""
    bare = tokenizer.encode("a", add_special_tokens=False)
    full = tokenizer.encode("a", add_special_tokens=True)
    starts = range(len(full) - len(bare) + 1)
    first = next((k for k in starts if full[k : k + len(bare)] == bare), 0)
    return tuple(full[:first])


@contextmanager
def _reading(model: str) -> Iterator[None]:
    """The border to the hub and to other people's files: all that fails is one line."""
    place = f"model.model: `{model}`"
    try:
        yield
    except RetrainError:
        raise
    except GatedRepoError as error:
        raise ModelError(
            f"{place} is gated on the Hugging Face hub: accept its terms on its page, then run"
            " `hf auth login` or set HF_TOKEN"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ModelError(
            f"{place} is neither a directory nor a model of the Hugging Face hub that can be seen"
            " (a private one needs `hf auth login` or HF_TOKEN)"
        ) from error
    except LocalEntryNotFoundError as error:
        raise ModelError(
            f"{place} is not in the local cache, and {constants.ENDPOINT} cannot be reached: give a"
            " directory, or `builtin:tiny-arithmetic`, or fill the cache (HF_HOME) on a machine"
            " with a network"
        ) from error
    except Exception as error:
        raise ModelError(
            f"{place} has no tokenizer that can be loaded: {describe(error)}"
        ) from error
