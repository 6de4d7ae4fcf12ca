"""What samples for a policy: inference servers, or an inference library in this process."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from retrain_backends.engines.logprob_kind import LogprobKind
from retrain_backends.types import Completion, Request, SampledGroups, SamplingParams


class Engine(Protocol):
    """Samples from adapters that it has loaded, by name."""

    @property
    def logprobs(self) -> LogprobKind:
        """The distribution of its log-probs, as documented.

        Used where the sampler, which measures it, cannot tell.
        """
        ...

    def load(self, name: str, directory: str) -> None:
        """Load an adapter, a PEFT directory, under a name that was not used before.

        Raises:
          RunError: it cannot be loaded.
        """
        ...

    def unload(self, name: str) -> None:
        """Unload an adapter."""
        ...

    def sample(
        self, requests: Sequence[Request], params: SamplingParams, adapter: str
    ) -> SampledGroups:
        """Sample from an adapter that was loaded; as `protocols.Sampler.sample`.

        Raises:
          RunError: a request cannot be answered.
        """
        ...

    def sample_everywhere(
        self, request: Request, params: SamplingParams, adapter: str
    ) -> Mapping[str, list[Completion]]:
        """All completions of a request from each copy of the model, by a name for messages.

        A copy that does not answer is left out.
        """
        ...

    def rest(self) -> None:
        """Free memory that the trainer needs; called before each training step."""
        ...

    def close(self, adapters: Iterable[str] = ()) -> None:
        """Unload adapters, and free models and connections."""
        ...
