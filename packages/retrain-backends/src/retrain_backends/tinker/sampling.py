"""Sampling of groups: all prompts in flight at once, as far as the limits allow."""

from collections.abc import Sequence
from concurrent.futures import Future, as_completed
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import ExitStack
from dataclasses import dataclass, field
from threading import Semaphore
from typing import Any

import numpy as np
import tinker

from retrain_backends.errors import ConfigError, RunError, describe
from retrain_backends.randomness import Purpose, stream
from retrain_backends.tinker.service import RESUME_HINT, Sampler, as_retrain_error, plain_future
from retrain_backends.tinker.throttle import Throttle
from retrain_backends.tinker.usage import UsageMeter
from retrain_backends.types import Completion, OnGroup, SamplingParams, Tokens

_EXAMPLES = 3  # failures that are told


@dataclass(frozen=True)
class Limits:
    """What bounds the calls.

    `at_once` in this process, `throttle` over all of them; `timeout_s` is the longest wait for one
    answer, `max_failed` the largest share of a step's or an evaluation's prompts that may stay
    without one.
    """

    at_once: int
    throttle: Throttle
    timeout_s: float
    max_failed: float


@dataclass
class _Answers:
    """What has come of the prompts so far, by their index."""

    groups: dict[int, list[Completion]] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)


class GroupSampler:
    """Samples groups from a service.

    Args:
      endpoint: its address, for messages.
      limits: what bounds the calls.
      usage: gets the tokens.
    """

    def __init__(self, endpoint: str, limits: Limits, usage: UsageMeter) -> None:
        self._endpoint = endpoint
        self._limits = limits
        self._usage_meter = usage
        self._gate = Semaphore(limits.at_once)  # one, since two calls may sample at once
        # Why prompts of the step or evaluation got no completions, over all its calls.
        self._failures: dict[Purpose, list[str]] = {}

    def sample(
        self,
        sampler: Sampler,
        prompts: Sequence[Tokens],
        params: SamplingParams,
        on_group: OnGroup | None = None,
    ) -> list[list[Completion]]:
        """One group for each prompt; an empty one for a prompt that got no answer.

        Raises:
          ConfigError: the service refuses the key, or speaks a protocol that the SDK does not.
          RunError: more prompts than allowed got none, or it took too long.
        """
        running: dict[Future[Any], int] = {}
        answers = _Answers()

        def take(future: Future[Any]) -> None:
            index = running.pop(future)
            self._take(future, prompts[index], params, answers, index)
            if on_group and index in answers.groups:
                on_group(index, answers.groups[index])

        try:
            for index, prompt in enumerate(prompts):
                for future in [future for future in running if future.done()]:
                    take(future)
                running[self._submit(sampler, prompt, params, index)] = index
            for future in as_completed(list(running), self._limits.timeout_s):
                take(future)
        except FutureTimeoutError:
            late = f"no answer within {self._limits.timeout_s:g} s (backend.options.timeout_s)"
            answers.failures.update(dict.fromkeys(running.values(), late))
        finally:
            for future in running:
                future.cancel()
        self._refuse(answers.failures, len(prompts), params)
        return [answers.groups.get(index, []) for index in range(len(prompts))]

    def _submit(
        self,
        sampler: Sampler,
        prompt: Tokens,
        params: SamplingParams,
        index: int,
    ) -> Future[Any]:
        """Ask when there is room; the room is free again as soon as the answer is there."""
        room = ExitStack()
        if not self._gate.acquire(timeout=self._limits.timeout_s):
            raise RunError(
                f"{self._endpoint}: none of {self._limits.at_once} prompts was answered within"
                f" {self._limits.timeout_s:g} s (backend.options.timeout_s)"
            )
        room.callback(self._gate.release)
        try:
            room.enter_context(self._limits.throttle.slot())
            asked = sampler.sample(
                prompt=tinker.ModelInput.from_ints(prompt.tolist()),
                num_samples=params.group_size,
                sampling_params=tinker.SamplingParams(
                    max_tokens=params.max_tokens,
                    seed=seed_of(params, index),
                    stop=list(params.stop_token_ids),
                    temperature=params.temperature,
                ),
            )
            future = plain_future(asked)
        except BaseException:
            room.close()
            raise
        future.add_done_callback(lambda _: room.close())
        return future

    def _take(
        self,
        future: Future[Any],
        prompt: Tokens,
        params: SamplingParams,
        answers: _Answers,
        index: int,
    ) -> None:
        # A border: somebody else's library and network; what fails costs its own prompt.
        try:
            group = completions_of(future.result(), params.group_size)
        except Exception as error:
            line = as_retrain_error(error, f"{self._endpoint}: sampling")
            if isinstance(line, ConfigError):
                raise line from error
            answers.failures[index] = describe(error)
            return
        answers.groups[index] = group
        self._usage_meter.add(prompt=len(prompt), sampled=sum(len(row.tokens_T) for row in group))

    def _refuse(self, failures: dict[int, str], asked: int, params: SamplingParams) -> None:
        if params.purpose is Purpose.PROBE:
            return
        before = self._failures.get(params.purpose, []) if params.first_prompt else []
        missing = self._failures[params.purpose] = [*before, *failures.values()]
        prompts = params.num_prompts or asked
        if len(missing) <= self._limits.max_failed * prompts:
            return
        reasons = list(dict.fromkeys(missing))
        raise RunError(
            f"{self._endpoint}: {len(missing)} of {prompts} prompts got no completions, more than"
            f" backend.options.max_failed_prompts = {self._limits.max_failed:g} allows:"
            f" {'; '.join(reasons[:_EXAMPLES])}; {RESUME_HINT}"
        )


def seed_of(params: SamplingParams, index: int) -> int:
    """The seed of a prompt's group; the service draws the samples of one group from it.

    Below 2^30, since servers add the number of the sample and keep the sum in 32 bits.
    """
    place = params.first_prompt + index
    numbers = stream(params.seed, params.purpose, params.step, place)
    return int(numbers.integers(2**30))


def completions_of(answer: Any, group_size: int) -> list[Completion]:
    """The completions of one answer.

    Raises:
      ValueError: it is not the whole group with a log-prob for every token; what is not there is no
        completion, and an empty one is no success.
    """
    if len(answer.sequences) != group_size:
        raise ValueError(f"{len(answer.sequences)} completions instead of {group_size}")
    return [_completion(sequence) for sequence in answer.sequences]


def _completion(sequence: Any) -> Completion:
    tokens_T = np.asarray(sequence.tokens, np.int64)
    logprobs_T = np.asarray([] if sequence.logprobs is None else sequence.logprobs, np.float64)
    if not tokens_T.size:
        raise ValueError("a completion without tokens")
    if logprobs_T.shape != tokens_T.shape or not np.isfinite(logprobs_T).all():
        raise ValueError("a completion without a finite log-prob for every token")
    reason = "length" if sequence.stop_reason == "length" else "stop"
    return Completion(tokens_T, logprobs_T, reason)
