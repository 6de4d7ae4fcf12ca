"""The state that a run carries from one step to the next."""

from dataclasses import dataclass

from retrain_core import RunningCount, SepaState


@dataclass(frozen=True)
class TrainState:
    """Everything that the next step depends on, besides weights, optimiser and configuration.

    `steps_done` is also the index of the next step; `prompts_drawn` is the data cursor;
    `nonfinite_steps` counts steps with a non-finite loss or gradient, `updates` optimiser steps.
    """

    steps_done: int
    prompts_drawn: int
    running: RunningCount
    sepa: SepaState
    nonfinite_steps: int = 0
    updates: int = 0
