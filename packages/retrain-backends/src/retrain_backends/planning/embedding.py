"""Sentence embeddings of a local or downloaded model."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from retrain_backends.dotted_names import load_object, require
from retrain_backends.errors import ConfigError, ModelError, describe
from retrain_backends.hub_access import prefer_cache_if_unreachable
from retrain_backends.types import Floats

Embed: TypeAlias = Callable[[Sequence[str]], Floats]
"""Unit vectors of sentences, shape [n, d]."""

_PACKAGE = "sentence_transformers"


class SentenceModel:
    """A model of sentence-transformers, computed in 64 bits.

    In 32 bits, the embedding of a sentence depends on the others of its batch from the seventh
    digit on, so that a resumed run could mark a token differently.

    Args:
      model: a `sentence_transformers.SentenceTransformer`.
    """

    def __init__(self, model: Any) -> None:
        self._model = model.double()

    def __call__(self, sentences: Sequence[str]) -> Floats:
        """Unit vectors of the sentences, shape [n, d]."""
        encoded = self._model.encode(
            list(sentences), normalize_embeddings=True, show_progress_bar=False
        )
        return np.asarray(encoded, dtype=np.float64)


def load_sentence_model(name: str, device: str, where: str) -> SentenceModel:
    """Load an embedding model.

    Args:
      name: a directory, or a name on the hub, where `sentence-transformers/` may be left out.
      device: such as `cpu` or `cuda:0`.
      where: what needs it, for error messages.

    Raises:
      PluginError: sentence-transformers is not installed.
      ModelError: there is no such model, or the hub cannot be reached.
      ConfigError: the device cannot be used.
    """
    require(_PACKAGE, where)
    path = Path(name).expanduser()
    if not path.is_dir():
        if name.startswith((".", "/", "~")) or name.count("/") > 1:
            raise ModelError(f"planning.model: there is no directory `{name}`")
        prefer_cache_if_unreachable()
    load = load_object(f"{_PACKAGE}:SentenceTransformer", where)
    load_object("transformers.utils.logging:disable_progress_bar")()
    # A border: files that others wrote, and the hub.
    try:
        model = load(str(path) if path.is_dir() else name, device="cpu")
    except Exception as error:
        raise ModelError(
            f"planning.model: `{name}` cannot be loaded: {describe(error)}; without a network, set"
            " it to a directory with the files of the model"
        ) from error
    # A border: the device is the user's, and drivers fail in ways of their own.
    try:
        return SentenceModel(model.to(device))
    except Exception as error:
        raise ConfigError(
            f"planning.device: `{device}` cannot be used: {describe(error)}; use `cpu` or a GPU"
            " such as `cuda:0`"
        ) from error
