"""Objects by their dotted names, so that heavy packages are imported only where they are used."""

import importlib
import importlib.util
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from retrain_backends.config import did_you_mean
from retrain_backends.errors import PluginError, describe

# What brings a package that is optional, by the name it is imported under.
_EXTRAS = {
    "datasets": "retrain-backends[local]",
    "math_verify": "retrain-backends[math]",
    "openai": "retrain-backends[judge]",
    "peft": "retrain-backends[local]",
    "ray": "retrain-campaign[ray]",
    "safetensors": "retrain-backends[local]",
    "submitit": "retrain-campaign[slurm]",
    "tinker": "retrain-backends[tinker]",
    "torch": "retrain-backends[local]",
    "wandb": "retrain-backends[wandb]",
}


def load_object(name: str, where: str = "") -> Any:
    """Import the object that `pkg.module:attr` or `pkg.module.attr` names.

    Args:
      name: where the object is; after a colon, dots lead into attributes, and into the entries
        of a table.
      where: what an error message begins with, the name itself unless given.

    Raises:
      PluginError: no such module, a module that fails on import, or no such attribute.
    """
    where = where or f"`{name}`"
    module_name, _, path = name.partition(":") if ":" in name else name.rpartition(".")
    if not module_name or not path:
        raise PluginError(
            f"{where} is not a dotted name; write `my_module.my_object` or `my_module:my_object`"
        )
    found: Any = _import(module_name, where)
    for part in path.split("."):
        table = found if isinstance(found, Mapping) else None
        if not (part in table if table is not None else hasattr(found, part)):
            near = did_you_mean(part, _public_names(found), "`{}`")
            raise PluginError(f"{where}: `{module_name}` has no `{part}`{near}")
        found = table[part] if table is not None else getattr(found, part)
    return found


def _public_names(found: object) -> list[str]:
    names = found if isinstance(found, Mapping) else dir(found)
    return [name for name in names if not name.startswith("_")]


def _import(module_name: str, where: str) -> ModuleType:
    # A border: a module that is imported here may belong to the user and may raise anything.
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
    """Refuse to go on without a package that will be imported by another process.

    Raises:
      PluginError: it is not installed.
    """
    if importlib.util.find_spec(package) is None:
        raise _missing(package, where)


def _missing(package: str, where: str) -> PluginError:
    fix = f": pip install '{_EXTRAS[package]}'" if package in _EXTRAS else ""
    return PluginError(f"{where} needs the package `{package}`, which is not installed{fix}")
