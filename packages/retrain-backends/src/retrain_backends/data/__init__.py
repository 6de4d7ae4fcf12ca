"""Data: sources of questions, and their order."""

from retrain_backends.data.held_out import EVALUATION_SEED, load_held_out
from retrain_backends.data.load import load_examples
from retrain_backends.data.stream import Endless, PromptStream, fingerprint

__all__ = [
    "EVALUATION_SEED",
    "Endless",
    "PromptStream",
    "fingerprint",
    "load_examples",
    "load_held_out",
]
