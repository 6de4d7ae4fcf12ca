"""Architectures that the local backend cannot compute exactly, known from `config.json` alone."""

from typing import Any

from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

from retrain_backends.errors import ModelError

_ALIBI = ("bloom", "mpt")  # always; Falcon has a setting
_STATELESS = {"full_attention", "sliding_attention", "chunked_attention"}


def refuse_unsupported(config: Any, name: str) -> None:
    """Refuse a model whose layers are not attention that can be replaced by `attention.attend`.

    Args:
      config: of transformers.
      name: of the model, for the error message.

    Raises:
      ModelError: names the architecture and what is not supported.
    """
    kind = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if kind is None:
        return  # transformers refuses it with a reason
    reason = _unsupported(config.get_text_config(), kind)
    if reason is not None:
        raise ModelError(
            f"model `{name}` ({kind.__name__}) {reason}, which the local backend does not support:"
            " choose a model of a family that docs/models.md lists as exact"
        )


def _unsupported(config: Any, kind: Any) -> str | None:
    layer_types = set(getattr(config, "layer_types", None) or ())
    if config.model_type in _ALIBI or getattr(config, "alibi", False):
        return "has ALiBi position biases"
    if kind._is_stateful or layer_types & {"conv", "linear_attention", "hybrid", "hybrid_sliding"}:
        return "has state-space, linear-attention or convolution layers"
    if layer_types - _STATELESS:
        return f"has layers of type {', '.join(sorted(layer_types - _STATELESS))}"
    if not kind._supports_attention_backend:
        return "has attention that transformers cannot exchange"
    return None


def exact_length(config: Any) -> tuple[int, str] | None:
    """The number of tokens up to which texts are exact, and the setting that limits it.

    With longrope, transformers rotates all keys of a text by other angles once it is longer than
    `original_max_position_embeddings`, also those that are cached or belong to other texts of a
    batch. Chunked attention (Llama 4) is full attention within the first chunk.
    """
    config = config.get_text_config()
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") == "longrope":
        return rope["original_max_position_embeddings"], "original_max_position_embeddings"
    chunk = getattr(config, "attention_chunk_size", None)
    return None if chunk is None else (chunk, "attention_chunk_size")
