"""The tokenizer of the trained model."""

from retrain_backends.tokenizer.load import load_tokenizer
from retrain_backends.tokenizer.model_files import BUILTIN, resolve_model
from retrain_backends.tokenizer.tokenizer import Tokenizer

__all__ = ["BUILTIN", "Tokenizer", "load_tokenizer", "resolve_model"]
