"""What differs between inference servers: requests, answers, and how adapters are loaded."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

import numpy as np

from retrain_backends.types import Completion, Floats, SamplingParams, StopReason, Tokens

IdsOf: TypeAlias = Callable[[Sequence[str]], list[int]]


@dataclass(frozen=True)
class Call:
    """A POST request: its path below the address of the server, and its JSON body."""

    path: str
    body: Mapping[str, Any]


@dataclass(frozen=True)
class Asked:
    """Completions that a server is asked for.

    Args:
      prompt: its tokens, or its text.
      count: completions of it.
      max_tokens: of a completion.
      params: temperature and stop tokens.
      adapter: to sample from.
      seed: of the first completion.
    """

    prompt: list[int] | str
    count: int
    max_tokens: int
    params: SamplingParams
    adapter: str
    seed: int


class Dialect(Protocol):
    """One kind of server.

    Attributes:
      logprobs: the distribution of its log-probs, as documented; used where the sampler, which
        measures it, cannot tell.
      groups: whether one call returns all completions of a prompt.
      lora: how to start a server of this kind with LoRA, for messages.
      version_path: where a server says its version; empty if it does not.
      batch_invariance: how to start a server of this kind so that a completion does not depend on
        others in its batch; empty if it cannot.
      checksums: asks for the checksums of the base weights; None if no such server has them.

    With an attribute `in_process`, the dotted name of an `Engine` that is built from
    `PolicySettings`, no server is needed: `inference.url` may be empty. An attribute `plan`, the
    dotted name of a function of `PolicySettings`, says in one line what that engine would take.
    """

    logprobs: ClassVar[Literal["tempered", "raw", "truncated"]]
    groups: ClassVar[bool]
    lora: ClassVar[str]
    version_path: ClassVar[str]
    batch_invariance: ClassVar[str]
    checksums: ClassVar[Call | None]

    def completion(self, asked: Asked) -> Call:
        """Asks for completions of a prompt."""
        ...

    def completions(self, answer: Any, ids_of: IdsOf) -> list[Completion]:
        """The completions of an answer.

        Args:
          answer: of the server.
          ids_of: the ids of token texts, for an answer without ids; raises what is not exact.

        Raises:
          KeyError, TypeError, ValueError: it is not one.
        """
        ...

    def prompt_length(self, answer: Any) -> int | None:
        """The tokens of the prompt by the server's own count; None if it does not say."""
        ...

    def checksums_in(self, answer: Any) -> Mapping[str, str]:
        """The checksum of each tensor, by a name that has the device too if there are several."""
        ...

    def loading(self, name: str, directory: str) -> Call:
        """Loads an adapter under a name that was not used before."""
        ...

    def unloading(self, name: str) -> Call:
        """Unloads an adapter."""
        ...


def completion_of(
    tokens: Sequence[int] | None, logprobs: Sequence[float | None] | None, finished: str | None
) -> Completion:
    """One completion, checked.

    Raises:
      ValueError: it has no tokens, or not a finite log-prob for each of them.
    """
    if not tokens:
        raise ValueError("a completion without token ids")
    tokens_T: Tokens = np.asarray(tokens, np.int64)
    logprobs_T: Floats = np.asarray(
        [np.nan if x is None else x for x in logprobs or ()], np.float64
    )
    if logprobs_T.shape != tokens_T.shape:
        raise ValueError(f"{len(logprobs_T)} log-probs for {len(tokens_T)} tokens")
    if not np.isfinite(logprobs_T).all():
        raise ValueError("a log-prob that is not a number")
    if finished not in ("stop", "length"):
        raise ValueError(f"a completion that ended with `{finished}`")
    reason: StopReason = "length" if finished == "length" else "stop"
    return Completion(tokens_T, logprobs_T, reason)
