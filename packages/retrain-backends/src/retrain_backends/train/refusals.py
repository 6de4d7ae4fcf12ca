"""Refuses settings that this version or the backend does not support, before a model is loaded."""

from collections.abc import Iterator

from retrain_backends.config import InferenceConfig, RunConfig
from retrain_backends.engines.launch import STARTED, trains_on_cpu
from retrain_backends.engines.precision import sampling_arguments
from retrain_backends.errors import ConfigError, NotAvailableError
from retrain_backends.memory import machine_memory, size_text
from retrain_backends.plugins import KINDS, names
from retrain_backends.train.step.learning_rule import needs_whole_step
from retrain_backends.types import Capabilities
from retrain_core import ADVANTAGE_MODES, TRANSFORM_MODES

_COMPLETION_BYTES = 500  # of the record of a completion without its tokens, at least
_ORDER_BYTES = 8  # of an example in the order of an epoch


def refuse_unavailable(config: RunConfig) -> None:
    """Raise NotAvailableError with a line for every setting that belongs to a later version."""
    problems = [*_parts(config), *_features(config)]
    if problems:
        raise NotAvailableError(*problems)


def refuse_clashes(config: RunConfig, capabilities: Capabilities) -> None:
    """Raise ConfigError with a line for every setting that the backend does not support."""
    backend = f"the backend `{config.backend.backend}`"
    engine = config.inference.engine
    problems = []
    served = config.backend.backend == "local" and engine != "pytorch"
    if config.algorithm.uncertainty_kind == "shannon_entropy" and (
        served or not capabilities.sampler.entropy
    ):
        sampler = f"the engine `{engine}`" if served else backend
        problems.append(
            "algorithm.uncertainty_kind: `shannon_entropy` needs the entropy of every token, which "
            f"{sampler} does not report; use `surprisal`"
        )
    if config.inference.max_steps_off_policy and not served:
        problems.append(
            "inference.max_steps_off_policy: `1` needs an engine that samples beside the trainer,"
            " such as `vllm`; leave it at 0"
        )
    if config.inference.determinism != "off" and config.backend.backend != "local":
        problems.append(
            f"inference.determinism: `{config.inference.determinism}`, but {backend} samples"
            " itself; leave it out"
        )
    if engine != "pytorch" and not served:
        problems.append(f"inference.engine: `{engine}`, but {backend} samples itself; leave it out")
    if config.lora.alpha and not capabilities.trainer.lora_alpha:
        problems.append(f"lora.alpha: {backend} chooses it itself; leave it at 0")
    if config.lora.dropout and not capabilities.trainer.lora_dropout:
        problems.append(f"lora.dropout: {backend} trains without dropout; leave it at 0")
    if config.squeeze and config.squeeze.adapter_path:
        problems.append(
            f"squeeze.adapter_path: `{config.squeeze.adapter_path}` asks for an analysis without "
            "training; leave it out to analyse the adapter that the run trains"
        )
    problems += _cannot_overlap(config, capabilities)
    problems += _without_effect(config)
    problems += ranks_beyond(config)
    problems += _cannot_teach(config)
    problems += _beyond_memory(config, machine_memory())
    if problems:
        raise ConfigError(*problems)


def _cannot_overlap(config: RunConfig, capabilities: Capabilities) -> Iterator[str]:
    """A line for every reason why groups cannot be trained on while others are sampled."""
    inference, backend = config.inference, config.backend.backend
    if inference.overlap == "off":
        return
    key, fix = "inference.overlap: `exact`", 'leave it at "off"'
    if not capabilities.trainer.parts:
        yield f"{key}, but the backend `{backend}` trains a step as a whole; {fix}"
    elif backend == "local" and (inference.engine == "pytorch" or not inference.url):
        yield (
            f"{key}, but the engine `{inference.engine}` samples in the process that trains, one"
            f" after the other; {fix}, or sample on servers (inference.url)"
        )
    if inference.max_steps_off_policy:
        yield (
            f"{key}, but with inference.max_steps_off_policy = 1 servers sample all the time"
            " already; set one of the two"
        )
    if config.lora.dropout:
        yield (
            f"{key}, but lora.dropout = {config.lora.dropout:g} drops other weights when groups"
            f" are trained in another order; {fix}, or set lora.dropout = 0"
        )
    if reason := needs_whole_step(config.algorithm):
        yield f"{key}, but {reason}; {fix}"
    if config.reward.type not in KINDS["reward"].builtins:
        yield (
            f"{key}, but reward.type: `{config.reward.type}` judges a step as a whole; {fix}, or"
            " use a function (reward.type = `custom`)"
        )


def _without_effect(config: RunConfig) -> Iterator[str]:
    """A line for every setting of how completions are computed that what samples does not have."""
    inference, backend = config.inference, config.backend
    if backend.backend == "local" and inference.engine in STARTED:
        try:
            sampling_arguments(inference.engine, inference, on_cpu=trains_on_cpu(backend.devices))
        except ConfigError as error:
            yield from error.problems
        return
    for key in ("attention_kernel", "dtype", "kv_cache_dtype"):
        value, default = getattr(inference, key), InferenceConfig.model_fields[key].default
        if value == default:
            continue
        if backend.backend != "local":
            yield (
                f"inference.{key}: `{value}`, but the backend `{backend.backend}` samples itself;"
                " leave it out"
            )
        elif inference.engine != "pytorch" and (key, value) != ("dtype", "bf16"):
            yield (
                f"inference.{key}: `{value}` is not passed on to `{inference.engine}`: set it where"
                f" its server is started, and leave it at `{default}` here"
            )
        elif value == "tk":
            yield (
                "inference.attention_kernel: `tk`, but no ThunderKittens kernel is published as a"
                " package, and its attention takes no mask and no cache; use `default`, `flash`,"
                " `triton` or `cutlass`"
            )


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


def _cannot_teach(config: RunConfig) -> Iterator[str]:
    """A line for every setting with which no step can have a gradient."""
    training, algorithm = config.training, config.algorithm
    if training.group_size == 1:
        yield (
            "training.group_size: `1` can never teach: a completion is compared with the others of"
            " its group, and a group whose rewards are all equal is left out; use 2 or more"
        )
    builtin = (
        not algorithm.algorithm_mode
        and algorithm.advantage_mode in ADVANTAGE_MODES
        and algorithm.transform_mode in TRANSFORM_MODES
    )
    if training.temperature == 0 and builtin:
        yield (
            "training.temperature: `0` can never teach: the completions of a prompt are then all"
            " the same, and so are their rewards; use 1 or a little less (eval.temperature = 0 is"
            " greedy evaluation)"
        )


def _beyond_memory(config: RunConfig, memory: int | None) -> Iterator[str]:
    """A line for every number of completions whose records alone do not fit in memory."""
    training = config.training
    order = training.max_examples * _ORDER_BYTES if config.data.source == "arithmetic" else 0
    if memory is not None and order > memory:
        yield (
            f"training.max_examples: the order of {training.max_examples} examples needs"
            f" {size_text(order)}, and this machine has {size_text(memory)}; lower it, or leave it"
            " at 0 for questions without end"
        )
    counts = {"training.batch_size": training.batch_size * training.group_size}
    if config.eval.every:
        counts["eval.samples"] = config.eval.samples
    for key, completions in counts.items():
        least = completions * _COMPLETION_BYTES
        if memory is not None and least > memory:
            yield (
                f"{key}: {completions} completions at once need at least {size_text(least)}, and"
                f" this machine has {size_text(memory)}; lower it"
            )


def _parts(config: RunConfig) -> Iterator[str]:
    """Parts whose names `plugins.KINDS` lists as not available yet."""
    chosen = {
        "backend": config.backend.backend,
        "engine": config.inference.engine,
        "reward": config.reward.type,
        "environment": config.environment.provider,
    }
    for kind, name in chosen.items():
        if name in KINDS[kind].later:
            instead = " or ".join(f"`{known}`" for known in names(kind)) or "none"
            yield _unavailable(f"{KINDS[kind].setting}: `{name}`", f"use {instead}")


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
