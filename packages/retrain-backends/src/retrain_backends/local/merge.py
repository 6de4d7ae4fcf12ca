"""Merges an adapter into the weights of its base model."""

import sys
import warnings
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from retrain_backends.errors import ModelError, describe


def merge_adapter(adapter: Path, base: str, directory: Path) -> None:
    """Write the base model with an adapter merged into its weights, for transformers and servers.

    Merged in float32 and rounded once, to the base model's own precision.

    Args:
      adapter: a PEFT directory.
      base: path or hub id of the base model.
      directory: where the model is written.

    Raises:
      ModelError: the base model or the adapter cannot be loaded, or they do not fit together.
    """
    if not sys.stderr.isatty():
        transformers_logging.disable_progress_bar()
    # A border: files from others, and the libraries that read them.
    try:
        dtype = AutoConfig.from_pretrained(base).dtype or torch.float32
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of peft, about transformers
            merged = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    except Exception as error:
        raise ModelError(
            f"the adapter `{adapter}` cannot be merged into `{base}`: {describe(error)}"
        ) from error
    merged.to(dtype).save_pretrained(directory)
