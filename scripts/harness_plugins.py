"""A reward that the fake backend can learn, and backends that lose or double an update.

The harnesses copy this file into a working directory and name its classes in the configuration. A
harness that finds no difference with one of these backends cannot find any.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

from retrain_backends.fake import FakeBackend
from retrain_backends.types import (
    CheckpointRef,
    Restored,
    Rollout,
    StepResult,
    TrainBatch,
    Verdict,
)


class Parity:
    """1 for an answer of odd length, which a table of logits can learn."""

    def score(self, items: Sequence[Rollout]) -> list[Verdict]:
        """Judge."""
        return [Verdict(float(len(item.completion) % 2)) for item in items]


def lose_update(trainer: Any, batch: TrainBatch) -> StepResult:
    """Train, and return to the state before."""
    with TemporaryDirectory() as directory:
        reference = trainer.save(Path(directory))
        result = trainer.train(batch)
        trainer.load(reference)
    return result


def double_update(trainer: Any, batch: TrainBatch) -> StepResult:
    """Train twice."""
    trainer.train(batch)
    return trainer.train(batch)


MUTANTS = {"Losing": lose_update, "Doubling": double_update}


def mutant(backend: Any, wrong: Callable[[Any, TrainBatch], StepResult]) -> type:
    """The backend with a trainer whose first step after a resume goes wrong."""

    def from_config(_cls: type, settings: Any) -> Any:
        made = backend.from_config(settings)
        trainer = made.trainer
        right = SimpleNamespace(save=trainer.save, load=trainer.load, train=trainer.train)
        steps = [right.train]  # of which the last one is next

        def load(reference: CheckpointRef) -> Restored:
            steps.append(partial(wrong, right))
            return right.load(reference)

        def train(batch: TrainBatch) -> StepResult:
            return (steps.pop() if len(steps) > 1 else steps[0])(batch)

        trainer.load, trainer.train = load, train
        return made

    return type("Mutant", (backend,), {"from_config": classmethod(from_config)})


LosingFake = mutant(FakeBackend, lose_update)
DoublingFake = mutant(FakeBackend, double_update)
