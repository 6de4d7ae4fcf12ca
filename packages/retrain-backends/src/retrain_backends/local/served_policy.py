"""The adapter of a trainer, in the versions that a server may sample from."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from retrain_backends.engines.canary import Version
from retrain_backends.local.trainer import LocalTrainer
from retrain_backends.types import Floats, Tokens


class ServedPolicy:
    """The newest adapter, an earlier one, and the base model, for comparisons."""

    def __init__(self, trainer: LocalTrainer) -> None:
        self._trainer = trainer
        self._earlier = trainer.adapter.weights.clone()

    @property
    def version(self) -> int:
        """How often the adapter was changed in this process."""
        return self._trainer.version

    def export(self, directory: Path) -> str:
        """Write the adapter as a PEFT directory."""
        return self._trainer.export_adapter(directory)

    def keep(self) -> None:
        """Remember the adapter as the version `earlier`."""
        self._earlier.copy_(self._trainer.adapter.weights)

    def scores(self, prompt_T: Tokens, rows: Sequence[Tokens]) -> Mapping[Version, Floats]:
        """Log-probs of the tokens of some completions at temperature 1 under each version, nats."""
        weights = self._trainer.adapter.weights
        newest = weights.clone()
        versions: dict[Version, torch.Tensor] = {
            "newest": newest,
            "base": torch.zeros_like(newest),  # before `earlier`, which may be equal
            "earlier": self._earlier,
        }
        prompts = [prompt_T] * len(rows)
        scores: dict[Version, Floats] = {}
        try:
            for name, version in versions.items():
                weights.copy_(version)
                scores[name] = np.concatenate(self._trainer.score(prompts, rows, 1.0))
        finally:
            weights.copy_(newest)
        return scores
