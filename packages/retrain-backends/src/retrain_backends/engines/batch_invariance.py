"""Whether an engine gives the same tokens and log-probs to a request in any batch."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from retrain_backends.engines.engine import Engine
from retrain_backends.errors import ConfigError
from retrain_backends.types import Completion, Request, SamplingParams

_OTHERS = 8  # requests that are sampled beside the one that is compared


def refuse_batch_dependence(engine: Engine, request: Request, adapter: str, remedy: str) -> bool:
    """Ask for the same completions alone and among others, from every copy of the model.

    Args:
      engine: has loaded the adapter.
      request: is sampled at temperature 1.
      adapter: its name.
      remedy: how to start an engine of this kind so that batches make no difference.

    Returns:
      Whether there was an answer to compare.

    Raises:
      ConfigError: tokens or log-probs are not the same, to the last bit.
    """
    params = SamplingParams(1.0, ())
    alone = engine.sample_everywhere(request, params, adapter)
    others = [_other(request, index) for index in range(_OTHERS)]
    running = engine.sample([*others, request], params, adapter)
    beside = engine.sample_everywhere(request, params, adapter)
    groups = dict(running)
    if not alone:
        return False
    first, expected = next(iter(alone.items()))
    answers = [*alone.items(), *beside.items(), (first, groups[len(others)])]
    for place, rows in answers:
        if seen := _difference(expected, rows):
            raise ConfigError(
                f"inference.determinism: `tokens`, but {place} gives {seen} to the same request"
                f" among others than {first} gives to it alone; start it {remedy}, or set"
                ' inference.determinism = "off"'
            )
    return True


def _other(request: Request, index: int) -> Request:
    """A request of another length, with another prompt and other random numbers."""
    length = max(1, len(request.prompt_T) * (index + 1) // _OTHERS)
    prompt_T = np.roll(request.prompt_T, index + 1)[:length]
    return replace(
        request, prompt_T=prompt_T, key=replace(request.key, prompt=request.key.prompt + 1 + index)
    )


def _difference(expected: Sequence[Completion], rows: Sequence[Completion]) -> str:
    """How completions differ; empty if they do not."""
    pairs = list(zip(expected, rows, strict=True))
    other = sum(not np.array_equal(a.tokens_T, b.tokens_T) for a, b in pairs)
    if other:
        return f"other tokens in {other} of {len(pairs)} completions"
    most = max(float(np.abs(a.logprobs_T - b.logprobs_T).max()) for a, b in pairs)
    return f"log-probs that are up to {most:.2g} nats away" if most else ""
