"""Which adapter a server samples from, by the log-probs that it gives to its own tokens."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import numpy as np

from retrain_backends.types import Completion, Floats, Tokens

Version: TypeAlias = Literal["newest", "earlier", "base"]

_NEWEST: Version = "newest"
_ROUNDING = 1e-4  # nats: of float32 in another order of summation
_CLEAR = 3.0  # a distance is clear from this multiple of the noise on


class Policy(Protocol):
    """The adapter that is trained, in the versions that a server may have."""

    @property
    def version(self) -> int:
        """How often the adapter was changed in this process."""
        ...

    def export(self, directory: Path) -> object:
        """Write the adapter as a PEFT directory."""
        ...

    def keep(self) -> None:
        """Remember the adapter as the version `earlier`."""
        ...

    def scores(self, prompt_T: Tokens, rows: Sequence[Tokens]) -> Mapping[Version, Floats]:
        """Log-probs of the tokens of some completions at temperature 1 under each version, nats."""
        ...


class Canary:
    """Compares the log-probs of servers with those of the versions of an adapter.

    A server is nearest to the version that it samples from; how near, at the first comparison, is
    the noise of the server: its precision and its order of summation.

    Args:
      policy: the trainer's.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._noise: dict[str, float] = {}

    def version_of(
        self, place: str, prompt_T: Tokens, rows: Sequence[Completion]
    ) -> Version | None:
        """The version that a server samples from; None if they cannot be told apart.

        Args:
          place: the server.
          prompt_T: of the completions.
          rows: sampled by the server at temperature 1.
        """
        logprobs_t = np.concatenate([row.logprobs_T for row in rows])
        scores = self._policy.scores(prompt_T, [row.tokens_T for row in rows])
        missed = {name: _distance(logprobs_t, score) for name, score in scores.items()}
        moved = {name: _distance(scores["newest"], score) for name, score in scores.items()}
        noise = max(self._noise.setdefault(place, min(missed.values())), _ROUNDING)
        clear: list[Version] = [name for name in scores if moved[name] > _CLEAR * noise]
        nearest = min(clear, key=lambda name: missed[name]) if clear else _NEWEST
        if missed["newest"] > max(_CLEAR * noise, missed[nearest]):
            return nearest
        return _NEWEST if "earlier" in clear else None

    def knows(self, place: str) -> bool:
        """Whether a server was compared before."""
        return place in self._noise

    def noise(self, place: str) -> float:
        """The distance of a server from the trainer at the first comparison, nats a token."""
        return self._noise[place]


def _distance(one: Floats, other: Floats) -> float:
    return float(np.abs(one - other).mean())
