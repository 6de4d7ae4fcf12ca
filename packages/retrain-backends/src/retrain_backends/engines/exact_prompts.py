"""Samples from the prompts that a server can get as texts, and refuses or drops the others."""

import logging
from collections.abc import Sequence
from typing import Literal

from retrain_backends.engines.sampler import EngineSampler
from retrain_backends.errors import RunError, one_line
from retrain_backends.tokenizer import Tokenizer
from retrain_backends.types import (
    Facts,
    Request,
    SampledGroups,
    SamplingParams,
    Usage,
)

log = logging.getLogger(__name__)

_FIGURE = "inexact_prompts"
_LONGEST_EXAMPLE = 60  # characters of a prompt in a message, its end


class ExactPrompts:
    """A sampler whose server encodes the texts of prompts itself.

    Args:
      sampler: asks the server.
      tokenizer: of the trained model.
      inexact: what becomes of a prompt whose text has other tokens than the prompt.
    """

    def __init__(
        self, sampler: EngineSampler, tokenizer: Tokenizer, inexact: Literal["refuse", "drop"]
    ) -> None:
        self._sampler = sampler
        self._tokenizer = tokenizer
        self._inexact = inexact
        self._dropped = 0
        self._warned = False

    @property
    def facts(self) -> Facts:
        """Those of the engine."""
        return self._sampler.facts

    def sample(self, requests: Sequence[Request], params: SamplingParams) -> SampledGroups:
        """Sample the completions of the prompts whose texts encode to their tokens.

        Raises:
          RunError: a prompt is refused, or all are left out; also as the sampler.
        """
        kept = [index for index, request in enumerate(requests) if self._is_exact(request)]
        if dropped := [requests[index] for index in sorted({*range(len(requests))} - {*kept})]:
            self._drop(dropped, everything=not kept)
        return _numbered(self._sampler.sample([requests[index] for index in kept], params), kept)

    def _is_exact(self, request: Request) -> bool:
        return self._tokenizer.exact_text(request.prompt_T) is not None

    def _drop(self, requests: Sequence[Request], *, everything: bool) -> None:
        first = requests[0]
        end = one_line(self._tokenizer.decode(first.prompt_T))[-_LONGEST_EXAMPLE:]
        line = (
            f"step {first.key.step}: prompt {first.key.prompt}, which ends with `{end}`, has other"
            " tokens than its text, which is what the server would get"
        )
        if self._inexact == "refuse":
            raise RunError(
                f'{line}; leave such prompts out with inference.inexact_prompts = "drop", or'
                ' use a server that takes token ids (inference.prompts = "ids")'
            )
        if everything:
            raise RunError(
                f"{line}; so have all {len(requests)} that were asked for: use a server that takes"
                ' token ids (inference.prompts = "ids")'
            )
        if not self._warned:
            log.warning("%s; it is left out, and so are others like it", line)
            self._warned = True
        self._dropped += len(requests)

    def usage(self) -> Usage:
        """That of the engine, and the number of prompts that were left out."""
        dropped, self._dropped = self._dropped, 0
        return Usage({**self._sampler.usage().figures, _FIGURE: dropped})

    def rest(self) -> None:
        """Free memory that the trainer needs for a step."""
        self._sampler.rest()

    def close(self) -> None:
        """Close the sampler."""
        self._sampler.close()


def _numbered(groups: SampledGroups, indices: Sequence[int]) -> SampledGroups:
    """The groups by the indices that their requests had."""
    try:
        for index, group in groups:
            yield indices[index], group
    finally:
        groups.close()
