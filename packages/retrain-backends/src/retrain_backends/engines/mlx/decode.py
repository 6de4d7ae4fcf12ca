"""Decoding with mlx-lm: prompts are prefilled once, and rows join and leave a running batch.

A token is the inverse CDF of the model's distribution at the next uniform number of its
completion's stream, as with PyTorch (`local/decode.py`). A completion therefore depends on the
other rows by rounding only.
"""

# pyright: reportMissingImports=false

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_lm.generate import BatchGenerator, generate_step
from mlx_lm.models.cache import make_prompt_cache

from retrain_backends.engines.dialect import completion_of
from retrain_backends.types import Completion, Request, SampledGroups, SamplingParams

_PREFILLED_AT_ONCE = 8  # prompts, if each completion prefills its own


@dataclass(frozen=True)
class Decoding:
    """How groups are decoded.

    Args:
      model: of mlx-lm.
      use_adapter: makes it compute with the adapter; called before each token, since another
        generator may use another one.
      at_once: completions in a batch.
      share_prompts: whether a prompt is prefilled once for its group.
    """

    model: Any
    use_adapter: Callable[[], None]
    at_once: int
    share_prompts: bool


@dataclass
class _Row:
    index: int
    sample: int
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


def sample_groups(
    decoding: Decoding, requests: Sequence[Request], params: SamplingParams
) -> SampledGroups:
    """Sample the completions of all requests.

    Raises:
      ValueError: a log-prob is not a number.

    Yields:
      The index of a request and its completions, as they finish.
    """
    batch = _Batch(decoding, params)
    waiting = deque(enumerate(requests))
    groups: dict[int, dict[int, Completion]] = {}
    try:
        while waiting or batch.rows:
            decoding.use_adapter()
            while waiting and batch.has_room(len(waiting[0][1].samples)):
                batch.add(*waiting.popleft())
            for row, completion in batch.advance():
                group = groups.setdefault(row.index, {})
                group[row.sample] = completion
                samples = requests[row.index].samples
                if len(group) == len(samples):
                    yield row.index, [group[sample] for sample in samples]
    finally:
        batch.close()


class _Batch:
    """The completions that are being sampled."""

    def __init__(self, decoding: Decoding, params: SamplingParams) -> None:
        self.rows: dict[int, _Row] = {}
        self._decoding = decoding
        self._temperature = params.temperature
        share, at_once = decoding.share_prompts, decoding.at_once
        self._generator = BatchGenerator(
            self._logits,
            stop_tokens=[[token] for token in params.stop_token_ids],
            completion_batch_size=at_once,
            prefill_batch_size=at_once if share else min(at_once, _PREFILLED_AT_ONCE),
        )

    def has_room(self, size: int) -> bool:
        """Whether a group of this size may be added."""
        return not self.rows or len(self.rows) + size <= self._decoding.at_once

    def add(self, index: int, request: Request) -> None:
        """Add the completions of a request."""
        prompt, samples = request.prompt_T.tolist(), request.samples
        caches = [make_prompt_cache(self._decoding.model) for _ in samples]
        if self._decoding.share_prompts and len(prompt) > 1:
            beginning, prompt = mx.array(prompt[:-1]), prompt[-1:]
            for _ in generate_step(beginning, self._logits, max_tokens=0, prompt_cache=caches[0]):
                pass
            caches = [caches[0]] * len(samples)  # copied when they join the batch
        uids = self._generator.insert(
            [prompt] * len(samples),
            [request.max_tokens] * len(samples),
            caches=caches,
            samplers=[self._sampler(request, sample) for sample in samples],
        )
        rows = (_Row(index, sample) for sample in samples)
        self.rows.update(zip(uids, rows, strict=True))

    def advance(self) -> Iterator[tuple[_Row, Completion]]:
        """Decode one token of every completion; gives those that have finished."""
        answers = self._generator.next_generated()
        logprobs = _logprobs(answers, self._temperature)
        for answer, logprob in zip(answers, logprobs, strict=True):
            row = self.rows[answer.uid]
            row.tokens.append(answer.token)
            row.logprobs.append(logprob)
            if answer.finish_reason is not None:
                del self.rows[answer.uid]
                yield row, completion_of(row.tokens, row.logprobs, answer.finish_reason)

    def close(self) -> None:
        """Give its memory back."""
        self._generator.close()

    def _logits(self, tokens: Any, **arguments: Any) -> Any:
        """Those of the model in float32, of which mlx-lm computes log-probs."""
        return self._decoding.model(tokens, **arguments).astype(mx.float32)

    def _sampler(self, request: Request, sample: int) -> Callable[[Any], Any]:
        if self._temperature == 0:
            return lambda logprobs: mx.argmax(logprobs, axis=-1)
        return _InverseCdf(request.key.stream(sample), self._temperature)


class _InverseCdf:
    """Draws the tokens of one completion."""

    def __init__(self, stream: np.random.Generator, temperature: float) -> None:
        self._stream = stream
        self._temperature = temperature

    def __call__(self, logprobs: Any) -> Any:
        """The next token; logprobs (1, vocabulary) at temperature 1, result (1,)."""
        probabilities = mx.softmax(logprobs / self._temperature, axis=-1)
        cdf = mx.cumsum(probabilities, axis=-1)
        # The sum may differ from 1 by rounding; scaling the number preserves the tail.
        return mx.sum(cdf < self._stream.random() * cdf[:, -1:], axis=-1)


def _logprobs(answers: Sequence[Any], temperature: float) -> list[float]:
    """Log-probs of the tokens at the sampling temperature, from those at 1."""
    if not answers:
        return []
    scaled = mx.stack([answer.logprobs for answer in answers]) / (temperature or 1.0)
    tokens = mx.array([[answer.token] for answer in answers])
    logprobs = mx.take_along_axis(scaled, tokens, axis=-1)[:, 0]
    return (logprobs - mx.logsumexp(scaled, axis=-1)).tolist()
