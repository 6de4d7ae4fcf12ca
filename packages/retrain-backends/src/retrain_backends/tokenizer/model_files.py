"""Find the files of a model: built in, in a directory, or on the hub."""

from importlib.resources import files
from pathlib import Path

from retrain_backends.config.nearest import did_you_mean
from retrain_backends.dotted_names import load_object
from retrain_backends.errors import ModelError

BUILTIN = "builtin:"


def resolve_model(model: str) -> str:
    """The path of a built-in model `builtin:<name>`; any other name unchanged.

    Raises:
      ModelError: there is no such built-in model.
    """
    if not model.startswith(BUILTIN):
        return model
    shipped = Path(str(files("retrain_backends"))) / "models"
    directory = shipped / model.removeprefix(BUILTIN)
    names = sorted(f"{BUILTIN}{entry.parent.name}" for entry in shipped.glob("*/config.json"))
    if model not in names:
        raise ModelError(
            f"model.model: there is no `{model}`; built in: {', '.join(names) or 'none'}"
            + did_you_mean(model, names, "`{}`")
        )
    return str(directory)


def tokenizer_directory(model: str) -> Path:
    """The directory with the tokenizer's files, downloaded into the hub's cache if necessary.

    Raises:
      ModelError: no such directory; no such model on the hub, no access, or no network.
    """
    resolved = resolve_model(model)
    local = Path(resolved).expanduser()
    if local.is_dir():
        return local
    if resolved.startswith((".", "/", "~")) or resolved.count("/") > 1:
        raise ModelError(f"model.model: there is no directory `{model}`")
    # Imported by name, because the hub's client is slow to import and local files do not need it.
    return load_object("retrain_backends.tokenizer.hub:download_tokenizer")(resolved)
