"""Read all other tokenizers with transformers. Imported by name, only if it is needed."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# transformers imports torch if it is installed, and torch reads OMP_WAIT_POLICY once: idle OpenMP
# threads that spin make a busy machine ten times slower. Without torch, transformers warns on every
# import, which is irrelevant to a machine that trains on a service.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")

from transformers import AutoTokenizer


class TransformersCodec:
    """A tokenizer that `transformers.AutoTokenizer` loads from a directory."""

    def __init__(self, directory: Path) -> None:
        self._tokenizer: Any = AutoTokenizer.from_pretrained(directory)
        self.eos_token_id: int | None = self._tokenizer.eos_token_id
        # Of several templates, the default one.
        self.chat_template: str = (
            self._tokenizer.get_chat_template() if self._tokenizer.chat_template else ""
        )

    def __len__(self) -> int:
        return len(self._tokenizer)

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """The ids of a text's tokens."""
        return self._tokenizer.encode(text, add_special_tokens=add_special_tokens)

    def decode(self, ids: list[int], *, skip_special_tokens: bool) -> str:
        """The text of tokens."""
        return self._tokenizer.decode(
            ids, skip_special_tokens=skip_special_tokens, clean_up_tokenization_spaces=False
        )

    def render_chat(self, messages: list[dict[str, str]], variables: Mapping[str, Any]) -> str:
        """The text of a conversation, up to the start of the answer."""
        return self._tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, **variables
        )
