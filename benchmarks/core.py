"""Token advantages of one large step: retrain_core against the same formulas on Python lists.

128 completions (8 prompts x 16) of 10,240 tokens: check the batch, maxrl + gtpo_sepa + entropy
statistics. The list version has a function for each one of retrain_core, of the same contract.

    python benchmarks/core.py

Prints the best time of each, wall and processor, and their ratio, after checking that the results
are equal. Only the ratio means anything on another machine.
"""

import argparse
import math
import os
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from retrain_core import (
    Algorithm,
    CompletionBatch,
    EntropyStats,
    TokenAdvantages,
    offsets_from_lengths,
)

PROMPTS, GROUP, TOKENS = 8, 16, 10_240
BETA, LAMBDA, CAP = 0.1, 0.5, 50.0


class Step(NamedTuple):
    """The same step twice: flat arrays, and lists of one entry per completion."""

    arrays: tuple[np.ndarray, ...]
    rewards: list[float]
    logprobs: list[list[float]]
    planning: list[list[bool]]


class Timing(NamedTuple):
    """Seconds."""

    wall_s: float
    cpu_s: float


def make_step() -> Step:
    """Binary rewards, log-probs of about the spread of a real model, 5 % planning tokens.

    Planning tokens come in phrases of three, as strategic grams do.
    """
    rng = np.random.default_rng(0)
    shape = (PROMPTS * GROUP, TOKENS)
    rewards = rng.integers(0, 2, shape[0]).astype(np.float64)
    logprobs, planning = -rng.exponential(0.5, shape), rng.random(shape) < 0.05 / 3
    planning[:, 1:] |= planning[:, :-1]
    planning[:, 1:] |= planning[:, :-1]
    group_offsets = offsets_from_lengths([GROUP] * PROMPTS)
    token_offsets = offsets_from_lengths([TOKENS] * shape[0])
    arrays = (rewards, group_offsets, token_offsets, logprobs.ravel(), planning.ravel())
    return Step(arrays, rewards.tolist(), logprobs.tolist(), planning.tolist())


def list_maxrl(rewards: list[float]) -> list[float]:
    """Episode advantages of one group."""
    mean = sum(rewards) / len(rewards)
    if mean <= 1e-6:
        return [0.0] * len(rewards)
    return [(reward - mean) / (mean + 1e-6) for reward in rewards]


def list_surprisal(logprobs: list[float]) -> list[float]:
    """Uncertainties of one completion."""
    return [min(-logprob, CAP) for logprob in logprobs]


def list_sepa_pool(h: list[float], planning: list[bool]) -> list[float]:
    """Uncertainties of one completion, execution tokens pulled to their mean."""
    h = [min(x, CAP) for x in h]
    execution = [x for x, planned in zip(h, planning, strict=True) if not planned]
    if not execution:
        return h
    pulled = LAMBDA * sum(execution) / len(execution)
    keep = 1.0 - LAMBDA
    return [x if planned else pulled + keep * x for x, planned in zip(h, planning, strict=True)]


def list_gtpo(advantage: float, h: list[float]) -> list[float]:
    """Token advantages of one completion."""
    h = [min(x, CAP) for x in h]
    mean = sum(h) / len(h)
    if mean < 1e-7:
        return [advantage] * len(h)
    mean += 1e-8
    return [advantage * max(0.0, 1.0 + BETA * (x / mean - 1.0)) for x in h]


def list_moments(values: list[float]) -> tuple[float, float, int]:
    """Mean, population variance and count."""
    values = [min(value, CAP) for value in values]
    mean = sum(values) / len(values)
    return mean, sum((value - mean) ** 2 for value in values) / len(values), len(values)


def with_lists(step: Step) -> tuple[list[list[float]], EntropyStats]:
    """The pipeline on lists."""
    for completion, logprobs in enumerate(step.logprobs):
        if not all(map(math.isfinite, logprobs)):
            raise ValueError(f"completion {completion}: a log-prob is not finite")
    execution: list[float] = []
    planned: list[float] = []
    token_advantages: list[list[float]] = []
    for start in range(0, PROMPTS * GROUP, GROUP):
        advantages = list_maxrl(step.rewards[start : start + GROUP])
        for index, advantage in enumerate(advantages, start):
            mask = step.planning[index]
            h = list_surprisal(step.logprobs[index])
            execution += [x for x, is_plan in zip(h, mask, strict=True) if not is_plan]
            planned += [x for x, is_plan in zip(h, mask, strict=True) if is_plan]
            token_advantages.append(list_gtpo(advantage, list_sepa_pool(h, mask)))
    stats = EntropyStats(*list_moments(execution), *list_moments(planned))
    return token_advantages, stats


def with_arrays(step: Step, algorithm: Algorithm) -> TokenAdvantages:
    """The pipeline on arrays."""
    rewards, group_offsets, token_offsets, logprobs, planning = step.arrays
    batch = CompletionBatch(rewards, group_offsets, token_offsets, logprobs, planning=planning)
    return algorithm(batch, LAMBDA)


def best(function: Callable[[], object], repeats: int) -> Timing:
    """The best of several runs, which other processes disturbed least."""
    walls: list[float] = []
    cpus: list[float] = []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        function()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return Timing(min(walls), min(cpus))


def main() -> None:
    """Check that both give the same numbers, time them, print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--repeats", type=int, default=30, help="of the array version (lists: 1/10)"
    )
    repeats: int = parser.parse_args().repeats
    step = make_step()
    algorithm = Algorithm.from_names("maxrl", "gtpo_sepa", gtpo_beta=BETA)
    result, (token_advantages, stats) = with_arrays(step, algorithm), with_lists(step)
    np.testing.assert_allclose(result.values, np.ravel(token_advantages), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(result.entropy_stats, stats, rtol=1e-9)
    arrays = best(lambda: with_arrays(step, algorithm), repeats)
    lists = best(lambda: with_lists(step), math.ceil(repeats / 10))
    print(f"{PROMPTS * GROUP} completions x {TOKENS:,} tokens, maxrl + gtpo_sepa + statistics")
    print(f"machine load over the last minute: {os.getloadavg()[0]:.1f}")
    for name, timing in (("lists", lists), ("retrain_core", arrays)):
        print(
            f"{name:>14}: {timing.wall_s * 1e3:7.1f} ms  ({timing.cpu_s * 1e3:7.1f} ms processor)"
        )
    ratios = f"{lists.wall_s / arrays.wall_s:.0f}x ({lists.cpu_s / arrays.cpu_s:.0f}x processor)"
    print(f"{'ratio':>14}: {ratios}; the results are equal")


if __name__ == "__main__":
    main()
