"""Architectures that the local backend cannot compute exactly, known from `config.json` alone."""

from typing import Any

from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

from retrain_backends.errors import ModelError

_ALIBI = ("bloom", "mpt")  # always; Falcon has a setting
_SUPPORTED = {"full_attention", "sliding_attention"}
_STATEFUL = {"conv", "linear_attention", "hybrid", "hybrid_sliding"}


def refuse_unsupported(config: Any, name: str) -> None:
    """Refuse a model whose layers are not attention that can be replaced by `attention.attend`.

    Args:
      config: of transformers.
      name: of the model, for the error message.

    Raises:
      ModelError: names the architecture and what is not supported.
    """
    kind: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if kind is None:
        return  # transformers refuses it with a reason
    reason = _reason(config.get_text_config(), kind)
    if reason is not None:
        raise unsupported(name, kind, reason)


def unsupported(name: str, kind: type, reason: str) -> ModelError:
    """The error for a model of that class."""
    return ModelError(
        f"model `{name}` ({kind.__name__}) is not supported by the local backend: {reason};"
        " choose a model of a family that docs/models.md lists as exact"
    )


def _reason(config: Any, kind: Any) -> str | None:
    layer_types = set(getattr(config, "layer_types", None) or ())
    if config.model_type in _ALIBI or getattr(config, "alibi", False):
        return "it has ALiBi position biases"
    if kind._is_stateful or layer_types & _STATEFUL:
        return "it has state-space, linear-attention or convolution layers"
    if layer_types - _SUPPORTED:
        return f"it has layers of type {', '.join(sorted(layer_types - _SUPPORTED))}"
    if not kind._supports_attention_backend:
        return "its attention cannot be exchanged (AttentionInterface of transformers)"
    return None
