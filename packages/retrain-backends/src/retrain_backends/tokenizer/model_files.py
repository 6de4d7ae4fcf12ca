"""Find the files of a model: built in, in a directory, or on the hub."""

import json
import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any

from retrain_backends.config.nearest import did_you_mean
from retrain_backends.dotted_names import load_object
from retrain_backends.errors import ModelError, describe
from retrain_backends.hub_access import prefer_cache_if_unreachable

BUILTIN = "builtin:"
_TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "chat_template.*", "special_tokens_map.json"),
    *("added_tokens.json", "vocab.*", "merges.txt", "*.model", "*.tiktoken"),
)


def resolve_model(model: str) -> str:
    """The path of a built-in model `builtin:<name>` or of one in `~`; any other name unchanged.

    Raises:
      ModelError: there is no such built-in model, or no such user.
    """
    if not model.startswith(BUILTIN):
        return _expanded(model) if model.startswith("~") else model
    shipped = Path(str(files("retrain_backends"))) / "models"
    directory = shipped / model.removeprefix(BUILTIN)
    names = sorted(f"{BUILTIN}{entry.parent.name}" for entry in shipped.glob("*/config.json"))
    if model not in names:
        raise ModelError(
            f"model.model: there is no `{model}`; built in: {', '.join(names) or 'none'}"
            + did_you_mean(model, names, "`{}`")
        )
    return str(directory)


def loadable_name(model: str) -> str:
    """The name under which other programs find a model: an absolute path, or its hub id."""
    resolved = resolve_model(model)
    return str(Path(resolved).resolve()) if Path(resolved).is_dir() else resolved


def copy_tokenizer(source: Path, directory: Path) -> None:
    """Copy the files of a tokenizer, its chat template among them, from a model's directory."""
    for pattern in _TOKENIZER_FILES:
        for file in source.glob(pattern):
            shutil.copyfile(file, directory / file.name)


def tokenizer_directory(model: str) -> Path:
    """The directory with the tokenizer's files, downloaded into the hub's cache if necessary.

    Raises:
      ModelError: no such directory; no such model on the hub, no access, or no network.
    """
    resolved = resolve_model(model)
    local = Path(resolved)
    try:
        if local.is_dir():
            return local
    except OSError as error:  # too long, for example
        raise ModelError(f"model.model: {_shown(model)}: {error.strerror}") from error
    if resolved.startswith((".", "/")) or resolved.count("/") > 1:
        raise ModelError(f"model.model: there is no directory {_shown(model)}")
    prefer_cache_if_unreachable()
    # Imported by name, because the hub's client is slow to import and local files do not need it.
    return load_object("retrain_backends.tokenizer.hub:download_tokenizer")(resolved)


def read_table(path: Path) -> dict[str, Any]:
    """The object in a JSON file of a model; empty if there is no such file.

    Raises:
      ModelError: the file cannot be read, or is not a JSON object.
    """
    if not path.is_file():
        return {}
    try:
        table = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"model.model: `{path}` cannot be read: {describe(error)}") from error
    if not isinstance(table, dict):
        raise ModelError(f"model.model: `{path}` is not a JSON object")
    return table


def _expanded(model: str) -> str:
    try:
        return str(Path(model).expanduser())
    except RuntimeError as error:
        raise ModelError(f"model.model: {_shown(model)} begins with an unknown user") from error


def _shown(model: str) -> str:
    """A name for an error message, shortened if it is very long."""
    return f"`{model}`" if len(model) <= 200 else f"`{model[:100]}...` ({len(model)} characters)"
