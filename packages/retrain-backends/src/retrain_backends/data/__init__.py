"""Data: where questions come from, and in which order they are asked."""

from retrain_backends.data.load import load_examples
from retrain_backends.data.stream import Endless, PromptStream

__all__ = ["Endless", "PromptStream", "load_examples"]
