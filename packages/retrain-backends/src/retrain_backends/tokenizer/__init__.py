"""The tokenizer of the trained model."""

from retrain_backends.tokenizer.load import load_tokenizer
from retrain_backends.tokenizer.model_files import (
    BUILTIN,
    copy_tokenizer,
    loadable_name,
    resolve_model,
    tokenizer_directory,
)
from retrain_backends.tokenizer.tokenizer import Tokenizer

__all__ = [
    "BUILTIN",
    "Tokenizer",
    "copy_tokenizer",
    "load_tokenizer",
    "loadable_name",
    "resolve_model",
    "tokenizer_directory",
]
