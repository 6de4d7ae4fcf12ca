"""Sampling on the test server: completions, log-probs of prompts, and polls for their results."""

import itertools
import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from retrain_test_support.tinker.futures import Outcome, RefusedError, ServerFuture
from retrain_test_support.tinker.models import SamplingSession, ServerContext
from retrain_test_support.tinker.policy import Draw
from retrain_test_support.tinker.wire import prompt_tokens, write_samples

Body = Mapping[str, Any]

# A cloned sampling client numbers its requests from a billion times its own number.
_CLONE = 1_000_000_000
# Options of `sample` that this server does not have.
_UNKNOWN = (
    "topk_prompt_logprobs",
    "topk_sample_logprobs",
    "target_prompt_logprobs",
    "prompt_alt_tokens_k",
    "record_stability_info",
)


class Sampling:
    """The requests of sampling clients, processed concurrently."""

    def __init__(self, context: ServerContext) -> None:
        self._context = context
        self._unseeded = itertools.count()
        self._changed = threading.Condition()
        self._done: dict[tuple[str, int], list[dict[str, Any]]] = {}

    def sample(self, sampler: SamplingSession, body: Body) -> ServerFuture:
        """Sample completions of one prompt, and score the prompt if requested."""
        key = (sampler.sampler_id, body["seq_id"])
        future, is_new = self._context.state.futures.reserve(key)
        if is_new:
            self._context.log.enter("sample")
            self._context.state.futures.start(lambda: self._keep(future, sampler, body))
        return future

    def finished(self, sampler_id: str, clone: int, cursor: int, timeout_s: float) -> Body:
        """Requests of a sampling client that have ended since `cursor`, waiting for one."""
        key = (sampler_id, clone)
        with self._changed:
            self._changed.wait_for(lambda: len(self._done.get(key, ())) > cursor, timeout_s)
            done = self._done.get(key, [])
            return {"completions": done[cursor:], "cursor": len(done)}

    def _keep(self, future: ServerFuture, sampler: SamplingSession, body: Body) -> None:
        try:
            future.run(lambda: self._sample(sampler, body))
        finally:
            self._context.log.leave("sample")
        outcome = future.wait(0)
        end = {"request_id": future.request_id, "state": "failed"}
        if outcome is not None and outcome.json is None:
            end["state"] = "finished"
        with self._changed:
            key = (sampler.sampler_id, body["seq_id"] // _CLONE)
            self._done.setdefault(key, []).append(end)
            self._changed.notify_all()

    def _sample(self, sampler: SamplingSession, body: Body) -> Outcome:
        time.sleep(self._context.failures.sample_delay_s)
        self._context.log.wait_for_most("sample", self._context.failures.samples_together)
        self._context.failures.fail_if_due("failed_samples")
        unknown = [name for name in _UNKNOWN if body.get(name)]
        if unknown:
            raise RefusedError(f"this server has no {', '.join(unknown)}")
        prompt_T = self._prompt(body)
        draw = self._draw(body["sampling_params"], len(prompt_T))
        seed = body["sampling_params"].get("seed")
        # Without a seed every request draws from another stream.
        stream = [seed] if seed is not None else [next(self._unseeded), 0]
        last = int(prompt_T[-1])
        samples = [
            self._context.policy.sample(last, sampler.adapter, draw, [*stream, index])
            for index in range(body.get("num_samples", 1))
        ]
        scored_T = self._score(sampler, body, prompt_T) if body.get("prompt_logprobs") else None
        self._context.log.note(
            "sample",
            sampler.sampler_id,
            seed=seed,
            samples=len(samples),
            prompt_tokens=len(prompt_T),
            tokens=sum(len(each.tokens_T) for each in samples),
        )
        return Outcome(message=write_samples(samples, scored_T))

    def _prompt(self, body: Body) -> npt.NDArray[np.int64]:
        # A border: the prompt may hold pictures.
        try:
            prompt_T = prompt_tokens(body["prompt"])
        except ValueError as error:
            raise RefusedError(str(error)) from error
        vocabulary = self._context.policy.vocabulary
        if not prompt_T.size or prompt_T.min() < 0 or prompt_T.max() >= vocabulary:
            raise RefusedError(f"a prompt needs tokens of 0 to {vocabulary - 1}")
        return prompt_T

    def _draw(self, params: Mapping[str, Any], prompt_length: int) -> Draw:
        room = self._context.behaviour.context_length - prompt_length
        max_tokens = params.get("max_tokens", room)
        if not 0 < max_tokens <= room:
            raise RefusedError(f"max_tokens must be 1 to {room} after this prompt")
        stop = params.get("stop")
        if isinstance(stop, str) or any(isinstance(each, str) for each in stop or ()):
            raise RefusedError("this server stops at token ids only")
        return Draw(
            max_tokens=max_tokens,
            temperature=params.get("temperature", 1.0),
            top_k=params.get("top_k", -1),
            top_p=params.get("top_p", 1.0),
            stop=self._context.eos if stop is None else frozenset(stop),
            tempered=self._context.behaviour.logprobs == "tempered",
        )

    def _score(
        self, sampler: SamplingSession, body: Body, prompt_T: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float64]:
        scored_T = np.full(len(prompt_T), np.nan)
        scored_T[1:] = self._context.policy.logprobs(prompt_T[:-1], prompt_T[1:], sampler.adapter)
        last_n = body.get("prompt_logprobs_last_n")
        if last_n is not None:
            scored_T[:-last_n] = np.nan
        return scored_T
