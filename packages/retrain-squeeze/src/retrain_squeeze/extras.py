"""Import parts that need an optional or slow package when they are used."""

from importlib import import_module
from typing import Any

from retrain_squeeze.errors import MissingExtraError

# Top-level package -> the extra that installs it.
_EXTRAS = {"httpx": "tinker", "tinker": "tinker", "torch": "torch", "wandb": "wandb"}


def load_part(name: str, where: str) -> Any:
    """Import the object that `package.module:attribute` names.

    Args:
      name: of an object in this package.
      where: the setting that needs the object; the error message begins with it.

    Raises:
      MissingExtraError: the extra that the object needs is not installed.
    """
    module, _, attribute = name.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRAS:
            raise
        raise MissingExtraError(
            f"{where} needs the package `{missing}`, which is not installed: "
            f"pip install 'retrain-squeeze[{_EXTRAS[missing]}]'"
        ) from error
