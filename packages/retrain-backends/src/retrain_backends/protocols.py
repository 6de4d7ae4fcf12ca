"""The protocols of the parts of a run, for built-ins and plugins alike."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from retrain_backends.types import (
    Capabilities,
    CheckpointRef,
    Example,
    Facts,
    Floats,
    Mask,
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
        """The engine, its devices, and its determinism."""
        ...

    def sample(self, requests: Sequence[Request], params: SamplingParams) -> SampledGroups:
        """Sample the completions of each request; yields (index of the request, completions).

        Results are yielded as they finish, in any order. A request that a service failed to answer
        is left out. Closing the iterator cancels the remaining requests.

        All completions come from the policy at the call of `sample`, not when the iterator is
        first advanced. If the facts allow a step off policy, the iterator is consumed in a second
        thread, concurrently with `Trainer.train`, `Trainer.save` and other calls of `sample`.
        """
        ...

    def close(self) -> None:
        """Free models, files and connections."""
        ...


class Trainer(Protocol):
    """Trains the policy."""

    @property
    def facts(self) -> Facts:
        """The engine, its devices, and its determinism."""
        ...

    def train(self, batch: TrainBatch) -> StepResult:
        """Take one optimiser step on the policy-gradient loss of the batch.

        If the loss or its gradient is not finite, no step is taken, and the result reports it.
        """
        ...

    def score(
        self, prompts: Sequence[Tokens], completions: Sequence[Tokens], temperature: float
    ) -> list[Floats]:
        """Log-probs of completions under the trained policy, nats.

        `completions[i]` follows `prompts[i]`; entry `t` of `result[i]` is the log-prob of its token
        `t` at the temperature (0 means 1, as in sampling). Nothing is sampled and nothing changes.
        """
        ...

    def save(self, directory: Path) -> CheckpointRef:
        """Write everything that an exact resume needs into `directory`, which exists and is empty.

        A service may keep the state itself; the result then has its remote path.
        """
        ...

    def load(self, ref: CheckpointRef) -> Restored:
        """Restore what `save` wrote, and report how exactly."""
        ...

    def export_adapter(self, directory: Path) -> str:
        """Write the adapter as a PEFT directory and return its path.

        `directory` exists and is empty, and is the path; a service returns a URI of its own.
        """
        ...


class GradientParts(Protocol):
    """The gradient of one optimiser step whose groups come in parts.

    The policy changes in `finish` only; an object that is dropped has no effect.
    """

    def add(self, part: TrainBatch) -> None:
        """Add the gradient of some groups of the step."""
        ...

    def finish(self) -> StepResult:
        """Take the optimiser step; as `Trainer.train` does with a batch of all parts."""
        ...


class PartsTrainer(Trainer, Protocol):
    """A trainer that can begin a step before all its completions are sampled.

    It declares `TrainerCapabilities.parts`. While a step is in parts, `score` may be called in
    another thread.
    """

    def accumulate(self) -> GradientParts:
        """Begin a step; at least one part with a trained token is added before it is finished."""
        ...


class Backend(Protocol):
    """A trainer and a sampler of one policy.

    The sampler always samples from the current policy of the trainer. One object may be both.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What this backend can do; a class attribute, readable before a model is loaded."""
        ...

    @property
    def trainer(self) -> Trainer:
        """Trains the policy."""
        ...

    @property
    def sampler(self) -> Sampler:
        """Samples from the policy."""
        ...

    def usage(self) -> Usage:
        """Usage since the last call; called once per step, after training."""
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
    """Loads examples."""

    def load(self) -> Sequence[Example]:
        """All examples, in the source's own order."""
        ...


class PlanningDetector(Protocol):
    """Finds the planning tokens of completions."""

    def masks(self, completions: Sequence[Sequence[str]]) -> Sequence[Mask]:
        """True for planning tokens, for each completion of a step.

        A completion is the texts of its tokens, which joined are its text; its mask has one entry
        for each. Tokens that share a character are one text, and a special token is its name. The
        mask does not depend on the other completions.
        """
        ...


class Tracker(Protocol):
    """Sends the figures of a run to a service that draws them.

    Errors are reported once, and the run continues without the tracker.
    """

    def log(self, step: int, figures: Mapping[str, float | str]) -> None:
        """Record the figures after `step` training steps, by name.

        Each step is logged once, in ascending order. A resumed run first logs its earlier steps
        again; the tracker skips those that the service has already.
        """
        ...

    def close(self) -> None:
        """Send the remaining figures; nothing is logged afterwards."""
        ...
