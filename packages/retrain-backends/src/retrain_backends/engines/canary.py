"""Which adapter a server samples from, by the log-probs that it gives to its own tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import numpy as np

from retrain_backends.types import Completion, Floats, Tokens

Version: TypeAlias = Literal["newest", "earlier", "base"]

_ROUNDING = 1e-4  # nats: of float32 in another order of summation
_CLEARLY = 3.0  # times nearer


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


@dataclass(frozen=True)
class Finding:
    """What a comparison has found.

    `version`: the one that a server samples from; None if two of them explain its log-probs almost
    equally well. `distance`: mean distance of its log-probs from those of the nearest one, nats.
    """

    version: Version | None
    distance: float


def compare(policy: Policy, prompt_T: Tokens, rows: Sequence[Completion]) -> Finding:
    """Find the version that a server samples from.

    It is the one whose log-probs are nearest to those of the server, by mean absolute distance, if
    it is three times nearer than `newest` (or `newest` than `earlier`). In lower precision a server
    is at a distance from every version; then small changes of the adapter cannot be told apart.

    Args:
      policy: the trainer's.
      prompt_T: of the completions.
      rows: sampled by the server at temperature 1.
    """
    logprobs_t = np.concatenate([row.logprobs_T for row in rows])
    scores = policy.scores(prompt_T, [row.tokens_T for row in rows])
    missed = {name: float(np.abs(logprobs_t - score).mean()) for name, score in scores.items()}
    versions: list[Version] = list(scores)
    nearest = min(versions, key=lambda version: missed[version])
    newest = max(missed["newest"], _ROUNDING)
    if newest >= _CLEARLY * max(missed[nearest], _ROUNDING):
        return Finding(nearest, missed[nearest])
    confirmed = missed["earlier"] >= _CLEARLY * newest
    return Finding("newest" if confirmed else None, missed[nearest])
