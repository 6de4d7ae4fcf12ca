"""Exports a trained adapter as a model of its own."""

from pathlib import Path

from retrain_backends.dotted_names import load_object, require
from retrain_backends.errors import ConfigError, ModelError
from retrain_backends.tokenizer import copy_tokenizer, loadable_name, tokenizer_directory
from retrain_backends.tokenizer.model_files import read_table
from retrain_backends.train.storage.checkpoint import FINAL_DIR
from retrain_backends.train.storage.durable_writes import new_directory

_CONFIG = "adapter_config.json"


def export_merged(source: Path, target: Path, base: str = "") -> Path:
    """Write the base model with an adapter merged into its weights, and the tokenizer.

    Args:
      source: a PEFT directory, or a run that has finished.
      target: a new directory.
      base: the base model; empty for the one that the adapter names.

    Returns:
      `target`.

    Raises:
      ConfigError: there is no adapter, or the target is not new.
      ModelError: base model or adapter cannot be loaded.
    """
    adapter = _adapter_in(source)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"--merge: `{target}` exists; name a new directory")
    require("torch", "retrain export --merge")
    named = base or read_table(adapter / _CONFIG).get("base_model_name_or_path")
    if not isinstance(named, str) or not named:
        raise ModelError(f"`{adapter / _CONFIG}` names no base model; name it with --base")
    model = loadable_name(named)
    tokenizer = tokenizer_directory(model)
    merge = load_object("retrain_backends.local.merge:merge_adapter")
    with new_directory(target) as partial:
        merge(adapter, model, partial)
        copy_tokenizer(tokenizer, partial)
    return target


def _adapter_in(source: Path) -> Path:
    for directory in (source, source / FINAL_DIR):
        if (directory / _CONFIG).is_file():
            return directory
    raise ConfigError(
        f"`{source}` is no adapter: neither it nor its {FINAL_DIR}/ has an {_CONFIG}; name the"
        " directory of an adapter, or of a run that has finished"
    )
