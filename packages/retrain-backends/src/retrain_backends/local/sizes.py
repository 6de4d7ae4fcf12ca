"""Checks of sizes from `config.json`, before the weights are loaded: rank, context and memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from retrain_backends.config import PolicySettings
from retrain_backends.errors import ConfigError
from retrain_backends.local import attention
from retrain_backends.local.devices import memory_of
from retrain_backends.local.fused_lora import find_projections
from retrain_backends.local.weights import read_config, reading
from retrain_backends.memory import size_text

# Bytes for each parameter of the adapter: weight, gradient and two moments, all in float32.
TRAINED, _COPIED = 16, 8
# Bytes that the sampler reserves for each token of a completion, and uses for each logit.
_TOKEN, _LOGIT = 20, 16
_KEPT = 5  # numbers for each input of a linear layer, with what is kept between them


@dataclass(frozen=True)
class Context:
    """Tokens of the longest text that is computed exactly.

    With longrope, transformers rotates all keys of a longer text by other angles, also those that
    are cached by then and those of other texts in the batch.
    """

    tokens: int
    longrope: bool = False

    def __str__(self) -> str:
        reason = " (original_max_position_embeddings, with longrope)" if self.longrope else ""
        return f"{self.tokens} tokens{reason}"


@dataclass(frozen=True)
class ModelSizes:
    """Sizes of a model.

    Args:
      width: the highest rank that the update of a layer can have.
      context: the longest text; None if its configuration does not limit it.
      vocabulary: rows of its embedding.
      parameters: their number.
      adapter: parameters of an adapter of rank 1.
      cached: numbers that a key-value cache holds for each token.
      kept: numbers that a forward pass keeps for each token until the backward pass, about.
    """

    width: int
    context: Context | None
    vocabulary: int
    parameters: int
    adapter: int
    cached: int
    kept: int


@dataclass(frozen=True)
class _Need:
    """Bytes that are needed on a device, and the settings that they depend on."""

    what: str
    settings: str
    bytes: int

    def __str__(self) -> str:
        return f"{self.what} {size_text(self.bytes)} ({self.settings})"


def model_sizes(source: str, name: str) -> ModelSizes:
    """The sizes of a model, from its configuration alone.

    Args:
      source: a directory or an id of the hub.
      name: of the model, for error messages.

    Raises:
      ModelError: the configuration cannot be read, or describes no causal language model.
    """
    config = read_config(source, name)
    with reading(source, name):
        with torch.device("meta"):
            model: Any = AutoModelForCausalLM.from_config(
                config, attn_implementation=attention.NAME
            )
        embedding = model.get_input_embeddings().weight
        projections = find_projections(model, model.get_output_embeddings())
        return ModelSizes(
            width=max((min(p.in_features, max(p.widths)) for p in projections), default=0),
            context=context_of(config),
            vocabulary=embedding.shape[0],
            parameters=sum(part.numel() for part in model.parameters()),
            adapter=sum(p.in_features * len(p.widths) + sum(p.widths) for p in projections),
            cached=_cached(config.get_text_config()),
            kept=_KEPT * sum(p.in_features for p in projections),
        )


def _cached(text: Any) -> int:
    """Keys and values of all layers for one token, as of a model without sliding windows."""
    heads = text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    kept = getattr(text, "num_key_value_heads", None) or heads
    return 2 * text.num_hidden_layers * kept * width


def context_of(config: Any) -> Context | None:
    """The longest text of a model, with the scaling of its position embeddings."""
    text = config.get_text_config()
    longest = getattr(text, "max_position_embeddings", None)
    if longest is None:
        return None
    rope = getattr(text, "rope_parameters", None) or {}
    parts = [part for part in (rope, *rope.values()) if isinstance(part, dict)]
    for part in parts:
        if part.get("rope_type") == "longrope":
            return Context(part["original_max_position_embeddings"], longrope=True)
    return Context(max(longest, *map(_scaled, parts)))


def _scaled(rope: dict[str, Any]) -> int:
    original = rope.get("original_max_position_embeddings") or 0
    return int(original * (rope.get("factor") or 1))


def refuse_sizes(
    sizes: ModelSizes, settings: PolicySettings, dtype: torch.dtype, devices: Sequence[torch.device]
) -> None:
    """Raise ConfigError with a line for every size that the model or a device does not allow.

    Args:
      sizes: of the model.
      settings: of the policy.
      dtype: of the weights.
      devices: the one to sample on, and the one to train on if each has a copy of the model.
    """
    rank = settings.model.lora_rank
    problems = []
    if rank > sizes.width:
        problems.append(
            f"model.lora_rank: `{rank}` is above the width of the layers of"
            f" `{settings.model.model}`, {sizes.width}; an update of a layer has at most that rank"
        )
    if sizes.context is not None:
        problems += _beyond_context(sizes.context, settings)
    if not problems:
        problems += _beyond_memory(sizes, settings, dtype, devices)
    if problems:
        raise ConfigError(*problems)


def _beyond_context(context: Context, settings: PolicySettings) -> Iterator[str]:
    prompt, completion = settings.longest_prompt, settings.max_tokens
    if prompt + completion > context.tokens:
        room = max(0, context.tokens - prompt)
        yield (
            f"training.max_tokens: `{completion}` after a prompt of {prompt} tokens is beyond the"
            f" context of `{settings.model.model}`, {context}; at most {room} fit"
        )


def _beyond_memory(
    sizes: ModelSizes, settings: PolicySettings, dtype: torch.dtype, devices: Sequence[torch.device]
) -> Iterator[str]:
    """A line for each device that cannot hold even the least that is needed."""
    weights = _Need("weights", "model.model", sizes.parameters * dtype.itemsize)
    adapter = sizes.adapter * settings.model.lora_rank
    per_completion = _TOKEN * settings.max_tokens + _LOGIT * sizes.vocabulary
    group = _Need(
        "one group of completions",
        "training.group_size, training.max_tokens",
        settings.group_size * per_completion,
    )
    trained = _Need("adapter and optimiser", "model.lora_rank", TRAINED * adapter)
    sampled = _Need("adapter", "model.lora_rank", _COPIED * adapter)
    if len(devices) == 1:
        needs = {devices[0]: [weights, trained, group]}
    else:
        needs = {devices[0]: [weights, sampled, group]}
        needs[devices[1]] = [*needs.get(devices[1], []), weights, trained]
    for device, parts in needs.items():
        memory, least = memory_of(device), sum(part.bytes for part in parts)
        if memory is not None and least > memory:
            largest = sorted(parts, key=lambda part: -part.bytes)
            yield (
                f"{largest[0].settings}: the run needs at least {size_text(least)} on {device},"
                f" which has {size_text(memory)}: {', '.join(map(str, largest))}"
            )
