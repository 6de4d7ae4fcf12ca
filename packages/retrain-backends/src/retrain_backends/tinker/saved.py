"""The local part of a checkpoint whose state the service keeps."""

from collections.abc import Mapping
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict

from retrain_backends.types import Floats, Tokens, TrainBatch

_FILE = "tinker.json"
_ROWS, _TOKENS = 4, 256  # the part of a batch that the policy is recognised by


class Reference(BaseModel):
    """Some completions, and the log-probs that the policy gave their tokens when it was saved."""

    model_config = ConfigDict(frozen=True)

    prompts: list[list[int]] = []
    completions: list[list[int]] = []
    logprobs: list[list[float]] = []

    @classmethod
    def from_batch(cls, batch: TrainBatch) -> Self:
        """The beginnings of the first completions of a batch, without log-probs."""
        group_n = np.repeat(np.arange(len(batch.prompts)), np.diff(batch.group_offsets_g))
        ends = zip(batch.token_offsets_n[:_ROWS], batch.token_offsets_n[1:], strict=False)
        return cls(
            prompts=[batch.prompts[group].tolist() for group in group_n[:_ROWS]],
            completions=[batch.tokens_t[first:end][:_TOKENS].tolist() for first, end in ends],
        )

    def with_logprobs(self, scores: list[Floats]) -> Self:
        """The same completions with the present log-probs of their tokens."""
        return self.model_copy(update={"logprobs": [score.tolist() for score in scores]})

    def rows(self) -> tuple[list[Tokens], list[Tokens]]:
        """Prompts and completions."""
        return _arrays(self.prompts), _arrays(self.completions)

    def distance(self, scores: list[Floats]) -> float:
        """Mean distance of other log-probs of the same tokens, nats."""
        then = np.concatenate([np.array(row) for row in self.logprobs])
        return float(np.abs(np.concatenate(scores) - then).mean())


class SavedTrainer(BaseModel):
    """The path of a trainer on the service, and what it is recognised by.

    `updates`: optimiser steps taken; `usage`: of the run so far.
    """

    model_config = ConfigDict(frozen=True)

    path: str
    updates: int
    reference: Reference
    usage: Mapping[str, float]

    def write(self, directory: Path) -> None:
        """Write it into the directory of a checkpoint."""
        (directory / _FILE).write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Read what `write` wrote; its digest has been checked."""
        return cls.model_validate_json((directory / _FILE).read_text(encoding="utf-8"))


def _arrays(rows: list[list[int]]) -> list[Tokens]:
    return [np.array(row, np.int64) for row in rows]
