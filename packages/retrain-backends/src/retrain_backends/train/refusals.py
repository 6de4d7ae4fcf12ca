"""Refuses settings that this version or the backend does not support, before a model is loaded."""

from collections.abc import Iterator

from retrain_backends.config import RunConfig
from retrain_backends.errors import ConfigError, NotAvailableError
from retrain_backends.plugins import KINDS, names
from retrain_backends.types import Capabilities


def refuse_unavailable(config: RunConfig) -> None:
    """Raise NotAvailableError with a line for every setting that belongs to a later version."""
    problems = [*_parts(config), *_settings(config), *_features(config)]
    if problems:
        raise NotAvailableError(*problems)


def refuse_clashes(config: RunConfig, capabilities: Capabilities) -> None:
    """Raise ConfigError with a line for every setting that the backend does not support."""
    backend = f"the backend `{config.backend.backend}`"
    problems = []
    if config.algorithm.uncertainty_kind == "shannon_entropy" and not capabilities.sampler.entropy:
        problems.append(
            "algorithm.uncertainty_kind: `shannon_entropy` needs the entropy of every token, which "
            f"{backend} does not report; use `surprisal`"
        )
    if config.lora.alpha and not capabilities.trainer.lora_alpha:
        problems.append(f"lora.alpha: {backend} chooses it itself; leave it at 0")
    if config.lora.dropout and not capabilities.trainer.lora_dropout:
        problems.append(f"lora.dropout: {backend} trains without dropout; leave it at 0")
    if config.squeeze and config.squeeze.adapter_path:
        problems.append(
            f"squeeze.adapter_path: `{config.squeeze.adapter_path}` asks for an analysis without "
            "training; leave it out to analyse the adapter that the run trains"
        )
    problems += ranks_beyond(config)
    if problems:
        raise ConfigError(*problems)


def ranks_beyond(config: RunConfig) -> Iterator[str]:
    """A line for every rank of `[squeeze]` above that of the trained adapter."""
    rank = config.model.lora_rank
    for key in ("source_rank", "target_ranks", "compress_to") if config.squeeze else ():
        value = getattr(config.squeeze, key)
        if max(value if isinstance(value, tuple) else (value,), default=0) > rank:
            shown = list(value) if isinstance(value, tuple) else value
            yield (
                f"squeeze.{key}: `{shown}`, but the adapter that is trained has rank {rank} "
                "(model.lora_rank)"
            )


def _parts(config: RunConfig) -> Iterator[str]:
    """Parts whose names `plugins.KINDS` lists as not available yet."""
    chosen = {
        "backend": config.backend.backend,
        "engine": config.inference.engine,
        "reward": config.reward.type,
        "environment": config.environment.provider,
        "detector": config.planning.detector,
    }
    for kind, name in chosen.items():
        if name in KINDS[kind].later:
            instead = " or ".join(f"`{known}`" for known in names(kind)) or "none"
            yield _unavailable(f"{KINDS[kind].setting}: `{name}`", f"use {instead}")


def _settings(config: RunConfig) -> Iterator[str]:
    inference = config.inference
    chosen = (
        ("attention_kernel", inference.attention_kernel, ("default",)),
        ("dtype", inference.dtype, ("auto", "bf16")),
        ("kv_cache_dtype", inference.kv_cache_dtype, ("auto",)),
    )
    for key, value, allowed in chosen:
        if value not in allowed:
            instead = " or ".join(f"`{known}`" for known in allowed)
            yield _unavailable(f"inference.{key}: `{value}`", f"use {instead}")


def _features(config: RunConfig) -> Iterator[str]:
    if config.backpressure.enabled:
        yield _unavailable("backpressure.enabled: `true`", "set it to false")
    if config.campaign is not None:
        yield (
            "[campaign] describes many runs, and this command trains one: use `retrain campaign "
            "FILE.toml`, or `--no-campaign` for a single run from the same file"
        )


def _unavailable(setting: str, fix: str) -> str:
    return f"{setting} is not available in this version; {fix}"
