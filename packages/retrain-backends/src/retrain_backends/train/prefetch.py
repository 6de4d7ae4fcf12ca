"""The next step, prepared while this one trains.

Its prompts are, whichever the backend. A sampler that allows a step off policy is also asked to
sample it, so that its completions come from the policy as it was before this step's update.
"""

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Self

from retrain_backends.data import PromptStream
from retrain_backends.errors import RunError
from retrain_backends.group_sampling import GroupSampling
from retrain_backends.protocols import PlanningDetector, Sampler
from retrain_backends.randomness import Purpose
from retrain_backends.train.step.background import Background
from retrain_backends.train.step.clock import StepClock
from retrain_backends.train.step.samples import Judged, describe_samples
from retrain_backends.train.step.scoring import Judge, Scoring
from retrain_backends.train.storage.train_state import TrainState
from retrain_backends.types import Prompt, SampledGroups

_PROMPTS_S = 600.0  # longest wait for the prompts of a step


@dataclass(frozen=True)
class Schedule:
    """How many prompts a step draws, and how many steps the run has."""

    batch_size: int
    max_steps: int


@dataclass(frozen=True)
class _Prepared:
    """What is under way for the next step. `updates`: those behind the policy that samples it."""

    prompts: Future[list[Prompt]]
    scoring: Future[Scoring] | None
    updates: int


class Prefetcher:
    """Gives the loop judged completions, prepared while it trained or sampled at once.

    The first step of a process is sampled when it comes, so a resumed run begins on policy.
    Leaving it as a context ends the sampling under way as soon as its next group is finished.

    Args:
      stream: the prompts of the run.
      sampler: its facts say whether to sample a step off policy.
      judge: scores the completions.
      detector: marks their planning tokens.
      sampling: how groups are sampled.
      schedule: how many prompts, and until when.
      background: works beside the loop.
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
        self._samples_ahead = sampler.facts.steps_off_policy > 0
        self._prepared: _Prepared | None = None
        self._left = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._left = True

    def prepare(self, state: TrainState) -> None:
        """Begin to prepare the step after the one that follows `state`, unless that is the last.

        The sampler is called before this returns, if it samples ahead: its completions come from
        the policy as it is now.
        """
        step, cursor = state.steps_done + 1, state.prompts_drawn + self._schedule.batch_size
        if step >= self._schedule.max_steps:
            return
        prompts = self._background.start(lambda: self._draw(cursor))
        scoring = None
        if self._samples_ahead:
            scoring = self._background.start(self._ask(step, self._wait_for(prompts, step)))
        self._prepared = _Prepared(prompts, scoring, state.updates)

    def next(self, state: TrainState, clock: StepClock) -> Judged:
        """The completions of the step that follows `state`, with their verdicts.

        Raises whatever sampling them ahead has raised.
        """
        prepared, self._prepared = self._prepared, None
        with clock("prompts"):
            prompts = (
                self._wait_for(prepared.prompts, state.steps_done)
                if prepared
                else self._draw(state.prompts_drawn)
            )
        lag = 0
        with clock("sample"):
            if prepared and prepared.scoring:
                scoring, lag = prepared.scoring.result(), state.updates - prepared.updates
            else:
                scoring = self._ask(state.steps_done, prompts)()
        with clock("decode"):
            samples = describe_samples(scoring, self._judge.tokenizer, self._detector)
        with clock("reward"):
            return Judged(samples, scoring.verdicts(), lag)

    def _draw(self, cursor: int) -> list[Prompt]:
        return self._stream.batch(cursor, self._schedule.batch_size)

    def _wait_for(self, prompts: Future[list[Prompt]], step: int) -> list[Prompt]:
        try:
            return prompts.result(_PROMPTS_S)
        except TimeoutError:
            if prompts.done():  # the source's own
                raise
            raise RunError(
                f"step {step}: data.source has not given its prompts within {_PROMPTS_S:g} s"
            ) from None

    def _ask(self, step: int, prompts: list[Prompt]) -> Callable[[], Scoring]:
        """Ask the sampler for the completions of a step; a call of the result takes them."""
        tokens = [prompt.tokens for prompt in prompts]
        requests = self._sampling.requests(tokens, Purpose.SAMPLE, step)
        groups = self._sampler.sample(requests, self._sampling.params)
        return partial(self._take, groups, self._judge.scoring(prompts))

    def _take(self, groups: SampledGroups, scoring: Scoring) -> Scoring:
        """Begin to judge each group as it finishes, until nobody waits for them any more."""
        with closing(groups):
            for index, group in groups:
                if self._left:
                    break
                scoring.begin(index, group)
        return scoring
