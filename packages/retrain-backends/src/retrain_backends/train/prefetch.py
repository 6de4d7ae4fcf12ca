"""Prepares the next step while the current one trains.

Prompts are always prepared. With a sampler that allows one step off policy, the completions are
sampled too, from the policy before the current step's update.
"""

from concurrent.futures import Future
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Self

from retrain_backends.data import PromptStream
from retrain_backends.errors import RunError
from retrain_backends.group_sampling import GroupSampling
from retrain_backends.protocols import PlanningDetector, Sampler
from retrain_backends.randomness import Purpose
from retrain_backends.train.step.background import Background
from retrain_backends.train.step.clock import StepClock, Stopwatch
from retrain_backends.train.step.rollouts import Rollouts
from retrain_backends.train.step.scoring import Judge, Scoring
from retrain_backends.train.storage.train_state import TrainState
from retrain_backends.types import Prompt, SampledGroups

_PROMPTS_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Schedule:
    """The number of prompts per step, and of steps.

    `overlaps`: whether the groups of a step are trained on while others are sampled.
    """

    batch_size: int
    max_steps: int
    overlaps: bool = False


@dataclass(frozen=True)
class _Prepared:
    """Work in progress for the next step. `updates` counts those of the policy that samples it."""

    prompts: Future[list[Prompt]]
    rollouts: Rollouts | None
    updates: int


class Prefetcher:
    """Supplies the loop with judged completions, prepared in the background where possible.

    The first step of a process is not prepared, so a resumed run starts on policy. After the
    context is left, sampling in progress ends with its next finished group.

    Args:
      stream: the prompts of the run.
      sampler: its facts decide whether steps are sampled off policy.
      judge: scores the completions.
      detector: marks their planning tokens.
      sampling: how groups are sampled.
      schedule: prompts per step, the number of steps, and whether they overlap.
      background: runs the threads.
    """

    def __init__(
        self,
        stream: PromptStream,
        sampler: Sampler,
        judge: Judge,
        detector: PlanningDetector,
        sampling: GroupSampling,
        schedule: Schedule,
        background: Background,
    ) -> None:
        self._stream = stream
        self._sampler = sampler
        self._judge = judge
        self._detector = detector
        self._sampling = sampling
        self._schedule = schedule
        self._background = background
        self._samples_off_policy = sampler.facts.steps_off_policy > 0
        self.sampling = Stopwatch() if sampler.facts.separate else None
        self._prepared: _Prepared | None = None
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closed = True

    def prepare(self, state: TrainState) -> None:
        """Start preparing the step after the one that follows `state`, unless that is the last.

        A sampler that samples off policy is called before this returns, so its completions come
        from the current policy.
        """
        step, cursor = state.steps_done + 1, state.prompts_drawn + self._schedule.batch_size
        if step >= self._schedule.max_steps:
            return
        prompts = self._background.start(lambda: self._draw(cursor))
        rollouts = None
        if self._samples_off_policy:
            rollouts = self._request(step, self._wait_for(prompts, step), beside=True)
        self._prepared = _Prepared(prompts, rollouts, state.updates)

    def start(self, state: TrainState, clock: StepClock) -> Rollouts:
        """Request the completions of the step that follows `state`, unless that was prepared."""
        prepared, self._prepared = self._prepared, None
        with clock("prompts"):
            prompts = (
                self._wait_for(prepared.prompts, state.steps_done)
                if prepared
                else self._draw(state.prompts_drawn)
            )
        if prepared and prepared.rollouts:
            lag = state.updates - prepared.updates
            return replace(prepared.rollouts, steps_off_policy=lag)
        with clock("sample"):
            return self._request(state.steps_done, prompts, beside=self._schedule.overlaps)

    def _draw(self, cursor: int) -> list[Prompt]:
        return self._stream.batch(cursor, self._schedule.batch_size)

    def _wait_for(self, prompts: Future[list[Prompt]], step: int) -> list[Prompt]:
        try:
            return prompts.result(_PROMPTS_TIMEOUT_S)
        except TimeoutError:
            if prompts.done():  # raised by the source itself
                raise
            raise RunError(
                f"step {step}: data.source returned no prompts within {_PROMPTS_TIMEOUT_S:g} s"
            ) from None

    def _request(self, step: int, prompts: list[Prompt], *, beside: bool) -> Rollouts:
        """Request the completions of a step.

        They are collected in a thread of their own (`beside`), or as soon as somebody waits.
        """
        tokens = [prompt.tokens for prompt in prompts]
        requests = self._sampling.requests(tokens, Purpose.SAMPLE, step)
        with self.sampling() if self.sampling else nullcontext():
            groups = self._sampler.sample(requests, self._sampling.params)
        scoring = self._judge.scoring(prompts)
        collect = partial(self._collect, groups, scoring)
        if beside:
            collect = self._background.start(collect).result
        return Rollouts(scoring, collect, self._detector)

    def _collect(self, groups: SampledGroups, scoring: Scoring) -> None:
        """Start scoring each group as it finishes; stops once the prefetcher is closed."""
        with closing(groups), self.sampling() if self.sampling else nullcontext():
            try:
                for index, group in groups:
                    if self._closed:
                        break
                    scoring.begin(index, group)
            finally:
                scoring.end()
