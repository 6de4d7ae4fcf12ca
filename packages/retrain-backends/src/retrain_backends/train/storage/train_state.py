"""What a run carries from one step to the next."""

from dataclasses import dataclass

from retrain_core import RunningCount, SepaState


@dataclass(frozen=True)
class TrainState:
    """All that the next step depends on, besides the backend's weights and the configuration.

    `steps_done` is also the number of the next step; `prompts_drawn` is the data cursor;
    `nonfinite_steps` are those whose loss or gradient was not finite, `updates` those that trained.
    """

    steps_done: int
    prompts_drawn: int
    running: RunningCount
    sepa: SepaState
    nonfinite_steps: int = 0
    updates: int = 0
