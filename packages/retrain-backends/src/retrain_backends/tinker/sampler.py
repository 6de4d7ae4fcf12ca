"""The sampler of a policy that a service keeps: as many prompts in flight as are allowed."""

from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from threading import Semaphore
from typing import Any

import numpy as np
import tinker

from retrain_backends.errors import ConfigError, RunError, describe
from retrain_backends.randomness import Purpose, service_seed
from retrain_backends.tinker.declaration import SAMPLER
from retrain_backends.tinker.service import (
    SamplingClient,
    UnreadableError,
    as_retrain_error,
    plain_future,
)
from retrain_backends.tinker.session import Session
from retrain_backends.types import Completion, Facts, Request, SampledGroups, SamplingParams
from retrain_backends.waiting import RESUME_HINT

_EXAMPLES = 3  # failures that are told


class TinkerSampler:
    """Samples from the adapter of a session.

    Args:
      session: where the adapter is.
      at_once: prompts that may be in flight in this process.
    """

    capabilities = SAMPLER

    def __init__(self, session: Session, at_once: int) -> None:
        self._session = session
        self._at_once = at_once
        self._gate = Semaphore(at_once)  # one, since two calls may sample at once

    @property
    def facts(self) -> Facts:
        """A service, which promises nothing about its arithmetic."""
        return self._session.facts

    def sample(self, requests: Sequence[Request], params: SamplingParams) -> SampledGroups:
        """Sample with the newest weights; a request that got no answer is left out.

        Raises:
          ConfigError: the service refuses the key, or speaks a protocol that the SDK does not.
          RunError: more requests than allowed got no answer, or it took too long.
        """
        return self._sample(self._session.sampling(), requests, params)

    def close(self) -> None:
        """The session ends with the backend."""

    def _sample(
        self, client: SamplingClient, requests: Sequence[Request], params: SamplingParams
    ) -> SampledGroups:
        """Submit as many as are allowed, and yield each group when its answer is there."""
        asked = _Asked(requests)
        try:
            for index in range(len(requests)):
                for future in [future for future in asked.running if future.done()]:
                    yield from self._taken(future, asked)
                asked.running[self._submit(client, requests[index], params)] = index
            while asked.running or asked.unreadable:
                for index in asked.take_unreadable():
                    asked.running[self._submit(client, requests[index], params)] = index
                for future in self._done(asked):
                    yield from self._taken(future, asked)
        finally:
            for future in asked.running:
                future.cancel()
        self._refuse(list(asked.failures.values()), requests)

    def _done(self, asked: "_Asked") -> set[Future[Any]]:
        """The requests that are answered, one at least; if none is in time, all have failed."""
        running = asked.running
        try:
            return self._session.service.waiting.until(
                lambda most_s: wait(running, most_s, FIRST_COMPLETED).done, "sampling"
            )
        except TimeoutError:
            for future, index in running.items():
                future.cancel()
                asked.failures[index] = _late(self._session)
            running.clear()
            return set()

    def _submit(
        self, client: SamplingClient, request: Request, params: SamplingParams
    ) -> Future[Any]:
        """Ask when there is room; the room is free again as soon as the answer is there."""
        session, room = self._session, ExitStack()
        try:
            session.service.waiting.until(
                lambda most_s: self._gate.acquire(timeout=most_s), "sampling"
            )
        except TimeoutError as error:
            raise RunError(
                f"{session.service.endpoint}: none of {self._at_once} prompts:"
                f" {_late(session)}; {RESUME_HINT}"
            ) from error
        room.callback(self._gate.release)
        try:
            room.enter_context(session.throttle.slot())
            asked = client.sample(
                prompt=tinker.ModelInput.from_ints(request.prompt_T.tolist()),
                num_samples=len(request.samples),
                sampling_params=tinker.SamplingParams(
                    max_tokens=request.max_tokens,
                    seed=service_seed(request.key.stream(request.samples[0])),
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

    def _taken(self, future: Future[Any], asked: "_Asked") -> SampledGroups:
        """The group of an answer that is there; or none, and the failure noted."""
        index = asked.running.pop(future)
        request = asked.requests[index]
        # A border: somebody else's library and network; what fails costs its own prompt.
        try:
            group = completions_of(future.result(), len(request.samples))
        except Exception as error:
            line = as_retrain_error(error, f"{self._session.service.endpoint}: sampling")
            if isinstance(line, ConfigError):
                raise line from error
            if isinstance(line, UnreadableError) and index not in asked.repeated:
                asked.unreadable.append(index)
            else:
                asked.failures[index] = describe(error)
            return
        sampled = sum(len(row.tokens_T) for row in group)
        self._session.usage_meter.add(prompt=len(request.prompt_T), sampled=sampled)
        yield index, group

    def _refuse(self, failures: Sequence[str], requests: Sequence[Request]) -> None:
        """Raise RunError when too many got no answer; a probe can do without any."""
        allowed = self._session.options.max_failed_prompts
        probe = all(request.key.purpose is Purpose.PROBE for request in requests)
        if probe or len(failures) <= allowed * len(requests):
            return
        reasons = list(dict.fromkeys(failures))
        raise RunError(
            f"{self._session.service.endpoint}: {len(failures)} of {len(requests)} prompts got no"
            f" completions, more than backend.options.max_failed_prompts = {allowed:g} allows:"
            f" {'; '.join(reasons[:_EXAMPLES])}; {RESUME_HINT}"
        )


@dataclass
class _Asked:
    """The requests of one call, by their index.

    `unreadable`: those to ask for again, because their answers could not be read; `repeated`: those
    for which that was done.
    """

    requests: Sequence[Request]
    running: dict[Future[Any], int] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)
    unreadable: list[int] = field(default_factory=list)
    repeated: set[int] = field(default_factory=set)

    def take_unreadable(self) -> list[int]:
        """The requests to ask for again, each at most once."""
        again, self.unreadable = self.unreadable, []
        self.repeated.update(again)
        return again


def _late(session: Session) -> str:
    return f"no answer within {session.options.timeout_s:g} s (backend.options.timeout_s)"


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
