"""What the parts of a run promise each other; built-ins and plugins keep the same protocols."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from retrain_backends.types import (
    BackendFacts,
    Capabilities,
    CheckpointRef,
    Completion,
    Example,
    Floats,
    OnGroup,
    Restored,
    SamplingParams,
    Scored,
    StepResult,
    Tokens,
    TrainBatch,
    Usage,
    Verdict,
)


class Backend(Protocol):
    """Samples from a policy and trains it."""

    @property
    def capabilities(self) -> Capabilities:
        """What this backend can do; a class attribute, so that it is known before a model is."""
        ...

    def sample(
        self,
        prompts: Sequence[Tokens],
        params: SamplingParams,
        on_group: OnGroup | None = None,
    ) -> list[list[Completion]]:
        """Sample `params.group_size` completions of each prompt: `result[prompt][sample]`.

        `on_group`, when given, is called once for each prompt, in any order but from the thread
        that called `sample`, as soon as its completions are finished: they are judged while others
        are still sampled. What it raises ends the sampling. A prompt that a service failed to
        answer has no completions, `[]`, and is not announced.

        A backend whose facts allow a step off policy is called from a second thread, beside
        `train_step`, `save` and a `sample` of the first one. All completions of a call come from
        the policy as it is when the call begins.
        """
        ...

    def score(
        self, prompts: Sequence[Tokens], completions: Sequence[Tokens], temperature: float
    ) -> list[Floats]:
        """Log-probs of completions under the policy as it is trained, nats.

        `completions[i]` follows `prompts[i]`; entry `t` of `result[i]` is the log-prob of its token
        `t` at the temperature (0 means 1, as in sampling). Nothing is sampled and nothing changes.
        """
        ...

    def train_step(self, batch: TrainBatch) -> StepResult:
        """One optimiser step on the policy-gradient loss of the batch.

        No step is taken when the loss or its gradient is not finite; the result reports it.
        """
        ...

    def save(self, directory: Path) -> CheckpointRef:
        """Write what an exact continuation needs into `directory`, which exists and is empty.

        A service keeps it itself; the answer then has its path, `directory` what else is needed.
        """
        ...

    def load(self, ref: CheckpointRef) -> Restored:
        """Continue from what `save` wrote, and say how exactly."""
        ...

    def export_adapter(self, directory: Path) -> str:
        """Write the adapter as a PEFT directory and say where it is.

        `directory` exists and is empty, and is the answer; a service answers with its own path.
        """
        ...

    def describe(self) -> BackendFacts:
        """What samples, on which devices, and what the same seed promises."""
        ...

    def usage(self) -> Usage:
        """What was used since the last call; called once a step, after training."""
        ...

    def close(self) -> None:
        """Free models, files and connections."""
        ...


class Reward(Protocol):
    """Judges completions."""

    def score(self, items: Sequence[Scored]) -> list[Verdict]:
        """One verdict for each item, in order."""
        ...


class DataSource(Protocol):
    """Where examples come from."""

    def load(self) -> Sequence[Example]:
        """All examples, in the source's own order."""
        ...


class PlanningDetector(Protocol):
    """Finds the tokens in which a completion plans rather than executes."""

    def mask(self, tokens: Sequence[str]) -> npt.NDArray[np.bool_]:
        """True for planning tokens; one entry for each token text, in order."""
        ...


class Tracker(Protocol):
    """Sends the figures of a run to a service that draws them.

    What it raises is reported once, and the run continues without it.
    """

    def log(self, step: int, figures: Mapping[str, float | str]) -> None:
        """Record the figures after `step` training steps, by name.

        Steps come once each, in rising order. A resumed run first logs its earlier steps again;
        the tracker leaves out those that the service has.
        """
        ...

    def close(self) -> None:
        """Send what has not been sent; nothing is logged afterwards."""
        ...
