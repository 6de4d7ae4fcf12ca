"""Load the tokenizer of a model."""

import string
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jinja2 import TemplateError

from retrain_backends.config import did_you_mean
from retrain_backends.dotted_names import load_object
from retrain_backends.errors import ConfigError, ModelError, RetrainError, describe
from retrain_backends.tokenizer.chat_template import variables_of
from retrain_backends.tokenizer.model_files import read_table, tokenizer_directory
from retrain_backends.tokenizer.tokenizer import Codec, Tokenizer
from retrain_backends.tokenizer.with_tokenizers import read_with_tokenizers


def load_tokenizer(
    model: str, chat_variables: Mapping[str, Any] = MappingProxyType({})
) -> Tokenizer:
    """The tokenizer of a built-in model, a local directory or a model of the Hugging Face hub.

    Args:
      model: its name.
      chat_variables: variables of its chat template, `model.chat_template_kwargs`.

    Raises:
      ConfigError: the chat template does not have one of the variables.
      ModelError: no such model, no access, no network and no cached copy, no usable tokenizer, or
        no end-of-text token.
    """
    directory = tokenizer_directory(model)
    # A border: files from others. Every failure becomes an error of one line.
    try:
        codec = read_with_tokenizers(directory) or _read_with_transformers(directory)
        stops = _stop_token_ids(codec, directory)
        empty = not codec.encode(string.printable, add_special_tokens=False)
    except RetrainError:
        raise
    except Exception as error:
        raise ModelError(
            f"model.model: `{model}` has no tokenizer that can be loaded: {describe(error)}"
        ) from error
    if empty:
        raise ModelError(
            f"model.model: the tokenizer of `{model}` has no tokens for any text: tokenizer.json or"
            " the file of its vocabulary is missing or empty"
        )
    if not stops:
        raise ModelError(
            f"model.model: `{model}` has no end-of-text token, so no completion would stop;"
            " set eos_token in its tokenizer_config.json or eos_token_id in generation_config.json"
        )
    _check_variables(chat_variables, codec.chat_template, model)
    return Tokenizer(codec, stops, model, chat_variables, _model_vocabulary(directory))


def _read_with_transformers(directory: Path) -> Codec:
    # Imported by name, because transformers takes seconds to import and few models need it.
    return load_object("retrain_backends.tokenizer.with_transformers:TransformersCodec")(directory)


def _check_variables(given: Mapping[str, Any], template: str, model: str) -> None:
    """Refuse variables that the chat template would ignore."""
    setting = "model.chat_template_kwargs"
    if given and not template:
        raise ConfigError(f"{setting}: `{model}` has no chat template; leave it empty")
    try:
        known = sorted(variables_of(template)) if given else []
    except TemplateError as error:  # a border: the template is code that comes with the model
        raise ModelError(
            f"model.model: the chat template of `{model}` fails: {describe(error)}"
        ) from error
    has = ", ".join(f"`{name}`" for name in known) or "none"
    problems = [
        f"{setting}: `{name}` is not a variable of the chat template of `{model}`, which has {has}"
        + did_you_mean(name, known, "`{}`")
        for name in given
        if name not in known
    ]
    if problems:
        raise ConfigError(*problems)


def _model_vocabulary(directory: Path) -> int:
    config = read_table(directory / "config.json")
    text = config.get("text_config")  # of a model of several modalities
    sizes = (part.get("vocab_size") for part in (config, text) if isinstance(part, dict))
    return max((size for size in sizes if type(size) is int), default=0)


def _stop_token_ids(codec: Codec, directory: Path) -> tuple[int, ...]:
    """The end-of-text tokens of the tokenizer and of `generation_config.json`, ascending."""
    file = directory / "generation_config.json"
    given = read_table(file).get("eos_token_id")
    listed = [i for i in (given if isinstance(given, list) else [given]) if i is not None]
    if wrong := [i for i in listed if type(i) is not int or i < 0]:
        raise ModelError(
            f"model.model: eos_token_id in `{file}` is {wrong[0]!r}; it must be an id or a list of"
            " ids"
        )
    return tuple(sorted({i for i in (codec.eos_token_id, *listed) if i is not None}))
