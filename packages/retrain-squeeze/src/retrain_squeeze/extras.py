"""Parts that are imported only by the analysis that needs them, by name."""

from importlib import import_module
from typing import Any

from retrain_squeeze.errors import MissingExtraError

# The package whose absence means that an extra is not installed -> that extra.
_EXTRAS = {"httpx": "tinker", "tinker": "tinker", "torch": "torch", "wandb": "wandb"}


def load_part(name: str, where: str) -> Any:
    """Import the object that `package.module:attribute` names.

    Args:
      name: where the object is, always inside this package.
      where: the setting that asks for it; begins the message when its extra is missing.

    Raises:
      MissingExtraError: the extra that it needs is not installed.
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
