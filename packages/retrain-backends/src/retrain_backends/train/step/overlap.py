"""Trains the groups of a step while others are still sampled (`inference.overlap = "exact"`)."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from retrain_backends.errors import RunError
from retrain_backends.protocols import GradientParts, PartsTrainer
from retrain_backends.train.step.clock import StepClock
from retrain_backends.train.step.credit import CreditAssignment
from retrain_backends.train.step.rollouts import Rollouts
from retrain_backends.train.storage.train_state import TrainState
from retrain_backends.types import StepResult, TrainBatch

_ROUNDING = 1e-9  # relative difference of an advantage that is computed from its group alone


class StepTrainer(Protocol):
    """Takes the optimiser step of a batch, some of whose gradient may be there already."""

    def train(self, batch: TrainBatch) -> StepResult:
        """As `Trainer.train`."""
        ...


@dataclass(frozen=True)
class Overlap:
    """Computes the gradient of each group as soon as it is judged.

    Args:
      trainer: of the policy.
      credit: assigns the advantages of a group from that group alone.
    """

    trainer: PartsTrainer
    credit: CreditAssignment

    def train(self, rollouts: Rollouts, state: TrainState, clock: StepClock) -> StepTrainer:
        """Train until all groups of the step that follows `state` are judged; takes no step."""
        step = _BegunStep(self.trainer.accumulate(), [])
        for judged in rollouts.parts(clock):
            with clock("advantage"):
                part = self.credit.assign(judged, state).batch
            if part.trained_t.any():
                with clock("train"):
                    step.add(part)
        return step


@dataclass(frozen=True)
class _BegunStep:
    gradient: GradientParts
    parts: list[TrainBatch]

    def add(self, part: TrainBatch) -> None:
        self.parts.append(part)
        self.gradient.add(part)

    def train(self, batch: TrainBatch) -> StepResult:
        """Take the step, if the parts are what the rule makes of the whole step.

        Raises:
          RunError: the rule gives a group other advantages when it sees the whole step.
        """
        alone_t = np.sort(np.concatenate([part.weighted_advantages_t for part in self.parts]))
        together_t = np.sort(batch.weighted_advantages_t)
        if alone_t.shape != together_t.shape or not np.allclose(
            alone_t, together_t, rtol=_ROUNDING, atol=0.0
        ):
            raise RunError(
                f"step {batch.step}: [algorithm] the learning rule gives a group other advantages"
                " when it sees the whole step, so groups cannot be trained one by one: set"
                ' inference.overlap = "off", and by_group = False in its TransformSpec'
            )
        return self.gradient.finish()
