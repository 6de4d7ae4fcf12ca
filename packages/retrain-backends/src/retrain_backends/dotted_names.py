"""Loads objects by dotted name, so that heavy packages are imported only where they are used."""

import importlib
import importlib.util
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from retrain_backends.config import did_you_mean
from retrain_backends.errors import PluginError, describe

# Optional packages by import name, with the extra that installs them.
_EXTRAS = {
    "datasets": "retrain-backends[local]",
    "math_verify": "retrain-backends[math]",
    "mlx": "retrain-backends[mlx]",
    "mlx_lm": "retrain-backends[mlx]",
    "openai": "retrain-backends[judge]",
    "peft": "retrain-backends[local]",
    "ray": "retrain-campaign[ray]",
    "safetensors": "retrain-backends[local]",
    "sentence_transformers": "retrain-backends[semantic]",
    "sklearn": "retrain-backends[semantic]",
    "submitit": "retrain-campaign[slurm]",
    "tinker": "retrain-backends[tinker]",
    "torch": "retrain-backends[local]",
    "torchao": "retrain-backends[quantized]",
    "vllm": "retrain-backends[vllm]",
    "wandb": "retrain-backends[wandb]",
}


def load_object(name: str, where: str = "") -> Any:
    """Import the object that `pkg.module:attr` or `pkg.module.attr` names.

    Args:
      name: of the object; after a colon, dots separate attributes, or keys of a mapping.
      where: prefix of error messages; default: the name.

    Raises:
      PluginError: the module does not exist or cannot be imported, or it has no such attribute.
    """
    where = where or f"`{name}`"
    module_name, _, path = name.partition(":") if ":" in name else name.rpartition(".")
    if not module_name or not path:
        raise PluginError(
            f"{where} is not a dotted name; write `my_module.my_object` or `my_module:my_object`"
        )
    value: Any = _import(module_name, where)
    for part in path.split("."):
        table = value if isinstance(value, Mapping) else None
        if not (part in table if table is not None else hasattr(value, part)):
            hint = did_you_mean(part, _public_names(value), "`{}`")
            raise PluginError(f"{where}: `{module_name}` has no `{part}`{hint}")
        value = table[part] if table is not None else getattr(value, part)
    return value


def _public_names(value: object) -> list[str]:
    names = value if isinstance(value, Mapping) else dir(value)
    return [name for name in names if not name.startswith("_")]


def _import(module_name: str, where: str) -> ModuleType:
    # A border: the module may be the user's own and may raise anything.
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if module_name == missing or module_name.startswith(f"{missing}."):
            raise PluginError(
                f"{where}: there is no module `{missing}`, neither in the working directory"
                " nor among the installed packages"
            ) from error
        raise _missing(missing.partition(".")[0], where) from error
    except Exception as error:
        raise PluginError(
            f"{where}: importing `{module_name}` failed: {describe(error)}"
        ) from error


def require(package: str, where: str) -> None:
    """Check that a package is installed, without importing it.

    Raises:
      PluginError: it is not installed.
    """
    if importlib.util.find_spec(package) is None:
        raise _missing(package, where)


def _missing(package: str, where: str) -> PluginError:
    fix = f": pip install '{_EXTRAS[package]}'" if package in _EXTRAS else ""
    return PluginError(f"{where} needs the package `{package}`, which is not installed{fix}")
