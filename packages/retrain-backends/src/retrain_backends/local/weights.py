"""Load a model, and refuse one whose files are damaged or disagree with each other."""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from retrain_backends.errors import ModelError, describe
from retrain_backends.local import attention
from retrain_backends.local.architecture import refuse_unsupported
from retrain_backends.tokenizer.model_files import read_table

_INDEX = "model.safetensors.index.json"


def load_model(source: str, name: str, device: torch.device, dtype: torch.dtype) -> Any:
    """Load a causal language model, with the attention of the local backend.

    Args:
      source: a directory or an id of the hub.
      name: of the model, for error messages.
      device: to which it is moved.
      dtype: of the weights.

    Raises:
      ModelError: the architecture is not supported; a file is missing, damaged, or does not match
        `config.json`; a weight is not finite.
    """
    # Progress bars are shown only in a terminal, and only for models that may be downloaded.
    if name.startswith("builtin:") or not sys.stderr.isatty():
        transformers_logging.disable_progress_bar()
    config = read_config(source, name)
    load: Any = AutoModelForCausalLM.from_pretrained
    with reading(source, name):
        model, report = load(
            source,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            attn_implementation=attention.NAME,
            ignore_mismatched_sizes=True,  # reported below
            output_loading_info=True,
        )
        model = model.to(device)
    if problem := _mismatch(model, report) or _not_finite(model):
        raise ModelError(f"model `{name}` cannot be used: {problem}")
    return model


def read_config(source: str, name: str) -> Any:
    """The configuration of a model, of an architecture that is supported.

    Raises:
      ModelError: it cannot be read, or the architecture is not supported.
    """
    with reading(source, name):
        config = AutoConfig.from_pretrained(source)
    refuse_unsupported(config, name)
    return config


@contextmanager
def reading(source: str, name: str) -> Iterator[None]:
    """A border: the hub, the disk, the user's files. Every failure becomes one line."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # its tables of missing weights
    try:
        yield
    except Exception as error:
        problem = _damaged_file(Path(source)) or f"{describe(error)} ({_advice(error)})"
        raise ModelError(f"model `{name}` cannot be loaded: {problem}") from error
    finally:
        transformers_logging.set_verbosity(verbosity)


def _advice(error: Exception) -> str:
    if isinstance(error, OSError):
        return (
            "a hub id needs a network or a cached copy; a local path needs config.json and weights"
            " in .safetensors, pickle is not read"
        )
    return "check config.json"


def _damaged_file(directory: Path) -> str:
    """What is wrong with the files of the weights in a directory; empty if they can be read."""
    for path in sorted(directory.glob("*.safetensors")):
        try:
            with safe_open(path, "pt"):
                pass
        except (SafetensorError, OSError) as error:
            return f"`{path.name}` is damaged or incomplete ({describe(error)}); download it again"
    if not (directory / _INDEX).is_file():
        return ""
    index = read_table(directory / _INDEX)
    files = index.get("weight_map")
    if isinstance(files, dict) and files and "metadata" in index:
        return ""
    return f"`{_INDEX}` has no `metadata` or no `weight_map`; download it again"


def _mismatch(model: nn.Module, report: Mapping[str, Any]) -> str:
    """What the weights lack or have beyond `config.json`; empty if they agree."""
    if report["mismatched_keys"]:
        name, found, wanted = min(report["mismatched_keys"])
        return (
            f"`{name}` has the shape {tuple(found)} in the weights and {tuple(wanted)} by"
            " config.json"
        )
    if missing := sorted(report["missing_keys"]):
        return f"the weights lack {_listed(missing)}, which config.json requires"
    # transformers ignores what is left over, as it must for parts that a causal model does not use.
    kinds = {_kind(name) for name, _ in model.named_parameters()}
    if extra := sorted(name for name in report["unexpected_keys"] if _kind(name) in kinds):
        return f"the weights have {_listed(extra)}, for which config.json has no layer"
    return ""


def _kind(name: str) -> str:
    """A parameter's name without the number of its layer."""
    return re.sub(r"\.\d+\.", ".*.", name)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"`{names[0]}`{more}"


def _not_finite(model: nn.Module) -> str:
    for name, parameter in model.named_parameters():
        exact = parameter.is_floating_point() and parameter.itemsize > 1  # not quantised
        if exact and not bool(torch.isfinite(parameter).all()):
            return f"`{name}` contains NaN or infinity"
    return ""
