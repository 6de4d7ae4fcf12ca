"""The next step, prepared while this one trains.

Its prompts are, whichever the backend. One that allows a step off policy is also asked to sample
it, so that its completions come from the policy as it was before this step's update.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Self

from retrain_backends.errors import RunError
from retrain_backends.train.build import Run
from retrain_backends.train.step.scoring import StepScoring
from retrain_backends.train.storage.train_state import TrainState
from retrain_backends.types import Completion, Prompt

_PROMPTS_S = 600.0  # longest wait for the prompts of a step
_CALL_S = 60.0  # longest wait for a thread to come to its first call


class Rollout(NamedTuple):
    """The completions of one step, and their scoring, which has begun.

    `steps_off_policy` is how many updates the policy is behind that sampled them: 0 or 1.
    """

    groups: Sequence[Sequence[Completion]]
    scoring: StepScoring
    steps_off_policy: int = 0


@dataclass(frozen=True)
class _Begun:
    """What is under way for the next step. `updates`: those behind the policy that samples it."""

    prompts: Future[list[Prompt]]
    rollout: Future[Rollout] | None
    updates: int


class _UnwantedError(Exception):
    """Ends a sampling that nobody waits for any more."""


class Prefetcher:
    """Gives the loop prompts and completions, prepared ahead or made at once.

    The first step of a process is sampled when it comes, so a resumed run begins on policy.
    Leaving it as a context ends a sampling under way as soon as its next group is announced.

    Args:
      run: its backend's facts say whether to sample ahead; its `background` does the work.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._samples = run.backend.describe().steps_off_policy > 0
        self._begun: _Begun | None = None
        self._over = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over = True

    def begin(self, state: TrainState) -> None:
        """Begin to prepare the step after the one that follows `state`, unless that is the last.

        When this returns, the backend has been asked for its completions, if it is to sample ahead:
        an update that comes later is not in them.
        """
        step, cursor = state.steps_done + 1, state.prompts_drawn + self._batch_size
        if step >= self._run.config.training.max_steps:
            return
        prompts = self._run.background.start(lambda: self._draw(cursor))
        rollout = (
            self._sample_beside(step, self._wait_for(prompts, step)) if self._samples else None
        )
        self._begun = _Begun(prompts, rollout, state.updates)

    def prompts(self, state: TrainState) -> list[Prompt]:
        """The prompts of the step that follows `state`."""
        if self._begun:
            return self._wait_for(self._begun.prompts, state.steps_done)
        return self._draw(state.prompts_drawn)

    def sample(self, state: TrainState, prompts: list[Prompt]) -> Rollout:
        """The completions of these prompts; raises whatever sampling them ahead has raised."""
        begun, self._begun = self._begun, None
        if begun is None or begun.rollout is None:
            return self._sample(state.steps_done, prompts)
        return begun.rollout.result()._replace(steps_off_policy=state.updates - begun.updates)

    @property
    def _batch_size(self) -> int:
        return self._run.config.training.batch_size

    def _draw(self, cursor: int) -> list[Prompt]:
        return self._run.prompts.batch(cursor, self._batch_size)

    def _wait_for(self, prompts: Future[list[Prompt]], step: int) -> list[Prompt]:
        try:
            return prompts.result(_PROMPTS_S)
        except TimeoutError:
            if prompts.done():  # the source's own
                raise
            raise RunError(
                f"step {step}: data.source has not given its prompts within {_PROMPTS_S:g} s"
            ) from None

    def _sample_beside(self, step: int, prompts: list[Prompt]) -> Future[Rollout]:
        called = threading.Event()
        rollout = self._run.background.start(lambda: self._sample(step, prompts, called.set))
        called.wait(_CALL_S)
        return rollout

    def _sample(
        self, step: int, prompts: list[Prompt], calling: Callable[[], None] = lambda: None
    ) -> Rollout:
        run = self._run
        scoring = StepScoring(run.reward, run.tokenizer, prompts)

        def on_group(index: int, completions: Sequence[Completion]) -> None:
            if self._over:
                raise _UnwantedError
            scoring.begin(index, completions)

        tokens, params = [prompt.tokens for prompt in prompts], run.sampling(step)
        calling()
        return Rollout(run.backend.sample(tokens, params, on_group), scoring)
