"""Load the tokenizer of a model."""

import json
from pathlib import Path
from typing import Any

from retrain_backends.dotted_names import load_object
from retrain_backends.errors import ModelError, RetrainError, describe
from retrain_backends.tokenizer.model_files import tokenizer_directory
from retrain_backends.tokenizer.tokenizer import Codec, Tokenizer
from retrain_backends.tokenizer.with_tokenizers import read_with_tokenizers


def load_tokenizer(model: str) -> Tokenizer:
    """The tokenizer of a built-in model, a local directory or a model of the Hugging Face hub.

    Raises:
      ModelError: no such model, no access, no network and no cached copy, no usable tokenizer, or
        no end-of-text token.
    """
    directory = tokenizer_directory(model)
    # A border: files from others. Every failure becomes an error of one line.
    try:
        codec = read_with_tokenizers(directory) or _read_with_transformers(directory)
        stops = _stop_token_ids(codec, directory)
    except RetrainError:
        raise
    except Exception as error:
        raise ModelError(
            f"model.model: `{model}` has no tokenizer that can be loaded: {describe(error)}"
        ) from error
    if not stops:
        raise ModelError(
            f"model.model: `{model}` has no end-of-text token, so no completion would stop;"
            " set eos_token in its tokenizer_config.json or eos_token_id in generation_config.json"
        )
    return Tokenizer(codec, stops, model)


def _read_with_transformers(directory: Path) -> Codec:
    # Imported by name, because transformers takes seconds to import and few models need it.
    return load_object("retrain_backends.tokenizer.with_transformers:TransformersCodec")(directory)


def _stop_token_ids(codec: Codec, directory: Path) -> tuple[int, ...]:
    """The end-of-text tokens of the tokenizer and of `generation_config.json`, ascending."""
    file = directory / "generation_config.json"
    generation: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    listed = generation.get("eos_token_id")
    listed = listed if isinstance(listed, list) else [listed]
    return tuple(sorted({i for i in (codec.eos_token_id, *listed) if i is not None}))
