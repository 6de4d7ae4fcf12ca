"""What the parts of a run promise each other; built-ins and plugins keep the same protocols."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from retrain_backends.types import (
    Capabilities,
    CheckpointRef,
    Example,
    Facts,
    Floats,
    Request,
    Restored,
    Rollout,
    SampledGroups,
    SamplingParams,
    StepResult,
    Tokens,
    TrainBatch,
    Usage,
    Verdict,
)


class Sampler(Protocol):
    """Samples completions from the policy."""

    @property
    def facts(self) -> Facts:
        """What samples, on which devices, and what the same seed promises."""
        ...

    def sample(self, requests: Sequence[Request], params: SamplingParams) -> SampledGroups:
        """Sample the completions of each request; yields (index of the request, completions).

        Results come as they finish, in any order. A request that a service failed to answer is
        left out. Closing the iterator cancels what is still sampled.

        All completions come from the policy as it is when `sample` is called, not when the
        iterator is first advanced. A sampler whose facts allow a step off policy is iterated in a
        second thread, beside `Trainer.train`, `Trainer.save` and other calls of `sample`.
        """
        ...

    def close(self) -> None:
        """Free models, files and connections."""
        ...


class Trainer(Protocol):
    """Trains the policy."""

    @property
    def facts(self) -> Facts:
        """What trains, on which devices, and what the same seed promises."""
        ...

    def train(self, batch: TrainBatch) -> StepResult:
        """One optimiser step on the policy-gradient loss of the batch.

        No step is taken when the loss or its gradient is not finite; the result reports it.
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

    def save(self, directory: Path) -> CheckpointRef:
        """Write what an exact continuation needs into `directory`, which exists and is empty.

        A service keeps it itself; the answer then has its path, `directory` what else is needed.
        """
        ...

    def load(self, ref: CheckpointRef) -> Restored:
        """Continue from what `save` wrote, and report how exactly."""
        ...

    def export_adapter(self, directory: Path) -> str:
        """Write the adapter as a PEFT directory and return where it is.

        `directory` exists and is empty, and is the answer; a service answers with its own path.
        """
        ...


class Backend(Protocol):
    """A trainer and a sampler of one policy.

    The sampler always samples from the policy as its trainer has left it. A class that is both may
    name itself as both.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What this backend can do; a class attribute, so that it is known before a model is."""
        ...

    @property
    def trainer(self) -> Trainer:
        """What trains the policy."""
        ...

    @property
    def sampler(self) -> Sampler:
        """What samples from it."""
        ...

    def usage(self) -> Usage:
        """What was used since the last call; called once a step, after training."""
        ...

    def close(self) -> None:
        """Free trainer and sampler."""
        ...


def facts_of(backend: Backend) -> Facts:
    """The facts of a backend's sampler and trainer together."""
    return backend.sampler.facts.together_with(backend.trainer.facts)


class Reward(Protocol):
    """Judges rollouts."""

    def score(self, rollouts: Sequence[Rollout]) -> list[Verdict]:
        """One verdict for each rollout, in order."""
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
