"""One training run, from its configuration to its summary."""

from retrain_backends.tracking.summary import RunSummary
from retrain_backends.train.loop import train

__all__ = ["RunSummary", "train"]
