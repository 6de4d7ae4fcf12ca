"""The trainer of a policy that a service keeps."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

from retrain_backends.errors import RunError
from retrain_backends.tinker.datums import has_gradient
from retrain_backends.tinker.declaration import TRAINER
from retrain_backends.tinker.download import download_adapter
from retrain_backends.tinker.fidelity import measure
from retrain_backends.tinker.saved import Reference, SavedTrainer
from retrain_backends.tinker.session import Session
from retrain_backends.tinker.updating import Update, Updater, is_finite, step_result
from retrain_backends.types import (
    CheckpointRef,
    Facts,
    Floats,
    Restored,
    StepResult,
    Tokens,
    TrainBatch,
)
from retrain_backends.waiting import RESUME_HINT
from retrain_core import LossOptions


class TinkerTrainer:
    """Trains the adapter of a session.

    Args:
      session: where the adapter is.
      updater: takes the optimiser steps.
      bounds: on the ratio in the loss.
    """

    capabilities = TRAINER

    def __init__(self, session: Session, updater: Updater, bounds: LossOptions) -> None:
        self._session = session
        self._updater = updater
        self._bounds = bounds
        self._reference = Reference()
        self._updates = 0
        self._saves = 0
        self._checkpoint = ""  # the path of the state to go back to
        # Where the service keeps the present weights; empty if they are not saved yet. The adapter
        # gets the name of the state, from which it can be made again (`retrain squeeze`).
        self._state_name = self._adapter_path = ""

    @property
    def facts(self) -> Facts:
        """A service, which promises nothing about its arithmetic."""
        return self._session.facts

    def train(self, batch: TrainBatch) -> StepResult:
        """One optimiser step; none when the batch itself is not finite.

        Raises:
          RunError: the service failed, or the loss that it found is not finite.
        """
        if not is_finite(batch):
            return step_result(batch, Update(batch.logprobs_t, None, 0, {}), self._bounds)
        session, started = self._session, perf_counter()
        training = session.training()
        with session.throttle.slot():
            queue_s = perf_counter() - started
            update = self._updater.update(training, batch)
        self._updates += 1
        self._state_name = self._adapter_path = ""
        self._reference = Reference.from_batch(batch)
        session.usage_meter.add(trained=update.tokens)
        result = step_result(batch, update, self._bounds)
        self._refuse(batch, result)
        published = perf_counter()
        session.publish()
        times_s = {"queue": queue_s, **update.times_s, "publish": perf_counter() - published}
        return replace(result, times_s=times_s)

    def _refuse(self, batch: TrainBatch, result: StepResult) -> None:
        """Raise RunError if the weights are not those that one step on the batch gives."""
        where = f"step {batch.step}: {self._session.service.endpoint}"
        if not result.is_finite:
            norm = (
                "" if result.grad_norm is None else f" and the gradient's norm {result.grad_norm}"
            )
            raise RunError(
                f"{where} has taken the optimiser step, and the loss is {result.loss}{norm};"
                f" {self._way_back}; a lower training.lr may help"
            )
        # A step uses the gradient up, so a second one finds none.
        if result.grad_norm == 0.0 and result.clip_fraction != 1.0 and has_gradient(batch):
            raise RunError(
                f"{where} has taken an optimiser step without a gradient: it executed the step"
                " twice, because its answer was lost on the way, or before the gradient; the"
                f" weights are not those of the logged steps; {self._way_back}"
            )

    @property
    def _way_back(self) -> str:
        if not self._checkpoint:
            return "there is no checkpoint yet: start the run again"
        return f"{RESUME_HINT}, {self._checkpoint}"

    def score(
        self, prompts: Sequence[Tokens], completions: Sequence[Tokens], temperature: float
    ) -> list[Floats]:
        """Log-probs under the policy as it is trained; the service knows temperature 1 only."""
        del temperature
        if not completions:
            return []
        session, training = self._session, self._session.training()
        with session.throttle.slot():
            scores = session.service.score(training, prompts, completions)
        session.usage_meter.add(trained=sum(map(len, [*prompts, *completions])))
        return scores

    def save(self, directory: Path) -> CheckpointRef:
        """Have the service keep weights and optimiser, and note what they are recognised by."""
        session, training = self._session, self._session.training()
        with session.throttle.slot():
            path = self._saved(training.save_state, "saving the trainer", self._name)
        self._checkpoint, self._adapter_path = path, ""
        self._state_name = path.rpartition("/")[2]
        prompts, completions = self._reference.rows()
        saved = SavedTrainer(
            path=path,
            updates=self._updates,
            reference=self._reference.with_logprobs(self.score(prompts, completions, 1.0)),
            usage=session.usage_meter.state(),
        )
        saved.write(directory)
        return CheckpointRef(directory, path)

    def load(self, ref: CheckpointRef) -> Restored:
        """Continue with what the service kept, and measure how exactly.

        Raises:
          RunError: the service does not have it any more, or has another policy there.
        """
        session, saved = self._session, SavedTrainer.read(ref.directory)
        session.restore(saved.path)
        self._checkpoint = saved.path
        self._state_name = self._adapter_path = ""
        self._updates, self._reference = saved.updates, saved.reference
        session.usage_meter.restore(saved.usage)
        prompts, completions = saved.reference.rows()
        scores = self.score(prompts, completions, 1.0)
        with session.throttle.slot():
            return measure(session.service, saved, scores, session.usage_meter)

    def export_adapter(self, directory: Path) -> str:
        """Have the service keep the adapter for sampling, and download it if that was asked for."""
        session, training = self._session, self._session.training()
        with session.throttle.slot():
            if not self._adapter_path:
                self._adapter_path = self._saved(
                    training.save_weights_for_sampler,
                    "saving the adapter",
                    lambda: self._state_name or self._name(),
                )
            path = self._adapter_path
            if not session.options.download_adapter:
                return path
            urls = session.service.adapter_urls(training, self._name, path)
        try:
            download_adapter(urls, directory)
        except RunError as error:
            raise RunError(f"{session.service.endpoint}: {path}: {error}; {RESUME_HINT}") from error
        return str(directory)

    def _saved(self, save: Callable[..., Any], doing: str, name: Callable[[], str]) -> str:
        """The path under which the service has saved something."""
        wait, ttl_s = self._session.service.wait, self._ttl_s
        return wait(save(name(), ttl_s), doing, lambda: save(self._name(), ttl_s)).path

    @property
    def _ttl_s(self) -> int | None:
        return self._session.options.checkpoint_ttl_s or None

    def _name(self) -> str:
        """A name that this trainer has not used before."""
        self._saves += 1
        return f"update_{self._updates:06d}_{self._saves}"
