"""What the backends and the engines can do, and which of them are installed here."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from retrain_backends.declared import declared_capabilities
from retrain_backends.engines.launch import STARTED
from retrain_backends.errors import RetrainError
from retrain_backends.plugins import names, resolve
from retrain_backends.types import Capabilities

_LIBRARIES = {"pytorch": "torch", "vllm": "vllm", "mlx": "mlx-lm"}  # that sample in this process


@dataclass(frozen=True)
class Overview:
    """A row for each backend and each engine; the keys of all rows of a table are the same."""

    backends: tuple[Mapping[str, str], ...]
    engines: tuple[Mapping[str, str], ...]


def overview() -> Overview:
    """The backends and engines that can be named in a configuration, plugins included."""
    return Overview(
        tuple(_backend(name) for name in names("backend")),
        tuple(_engines()),
    )


def _backend(name: str) -> Mapping[str, str]:
    try:
        found: Capabilities | None = declared_capabilities(name)
        here = "yes"
    except RetrainError as error:
        found, here = None, str(error).rpartition("; ")[2]
    trainer, sampler = (found.trainer, found.sampler) if found else (None, None)
    return {
        "backend": name,
        "installed": here,
        "resuming": trainer.resume if trainer else "",
        "lora.alpha": _yes(trainer and trainer.lora_alpha),
        "lora.dropout": _yes(trainer and trainer.lora_dropout),
        "temperature in training": _yes(trainer and trainer.temperature),
        "entropy of tokens": _yes(sampler and sampler.entropy),
        "inference.engine": "any" if name == "local" else "its own",
    }


def _engines() -> Iterator[Mapping[str, str]]:
    sampler = resolve("backend", "local").capabilities.sampler
    yield {
        "engine": "pytorch",
        "in this process": _installed("pytorch"),
        "servers": "no",
        "log-probs": sampler.logprobs,
        "entropy of tokens": _yes(sampler.entropy),
        "max_steps_off_policy": "0",
        'overlap = "exact"': "no",
        'determinism = "tokens"': "on the CPU",
        'prompts = "text"': "no",
        "retrain serve": "no",
    }
    for name in names("engine"):
        if name == "pytorch":
            continue
        dialect = resolve("engine", name)
        in_process = bool(getattr(dialect, "in_process", ""))
        has_servers = hasattr(dialect, "completion")
        yield {
            "engine": name,
            "in this process": _installed(name) if in_process else "no",
            "servers": _yes(has_servers),
            "log-probs": dialect.logprobs,
            "entropy of tokens": "no",
            "max_steps_off_policy": "0 or 1" if has_servers else "0",
            'overlap = "exact"': _yes(has_servers),
            'determinism = "tokens"': _yes(getattr(dialect, "batch_invariance", "")),
            'prompts = "text"': _yes(has_servers),
            "retrain serve": _yes(name in STARTED),
        }


def _installed(engine: str) -> str:
    library = _LIBRARIES.get(engine, engine)
    try:
        return f"{library} {version(library)}"
    except PackageNotFoundError:
        return f"needs {library}"


def _yes(holds: object) -> str:
    return "" if holds is None else "yes" if holds else "no"
