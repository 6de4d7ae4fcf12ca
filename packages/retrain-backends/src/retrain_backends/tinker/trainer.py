"""The trainer of a policy that a service keeps."""

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from retrain_backends.errors import RunError
from retrain_backends.tinker.declaration import TRAINER
from retrain_backends.tinker.download import download_adapter
from retrain_backends.tinker.fidelity import measure
from retrain_backends.tinker.saved import Reference, SavedTrainer
from retrain_backends.tinker.service import RESUME_HINT
from retrain_backends.tinker.session import Session
from retrain_backends.tinker.updating import Updater, is_finite, step_result
from retrain_backends.types import (
    CheckpointRef,
    Facts,
    Floats,
    Restored,
    StepResult,
    Tokens,
    TrainBatch,
)
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
            return step_result(batch, batch.logprobs_t, self._bounds, {})
        session, started = self._session, perf_counter()
        training = session.training()
        with session.throttle.slot():
            queue_s = perf_counter() - started
            update = self._updater.update(training, batch)
        self._updates += 1
        self._state_name = self._adapter_path = ""
        self._reference = Reference.from_batch(batch)
        session.usage_meter.add(trained=update.tokens)
        published = perf_counter()
        session.publish()
        times_s = {"queue": queue_s, **update.times_s, "publish": perf_counter() - published}
        result = step_result(batch, update.logprobs_t, self._bounds, times_s)
        if not result.is_finite:
            raise RunError(
                f"step {batch.step}: the loss is {result.loss}, and {session.service.endpoint} has"
                f" taken the optimiser step; {RESUME_HINT}; a lower training.lr may help"
            )
        return result

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
            name = self._name()
            saving = training.save_state(name, self._ttl_s)
            path = session.service.wait(saving, "saving the trainer").path
        self._state_name, self._adapter_path = name, ""
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
                name = self._state_name or self._name()
                saving = training.save_weights_for_sampler(name, self._ttl_s)
                self._adapter_path = session.service.wait(saving, "saving the adapter").path
            path = self._adapter_path
            if not session.options.download_adapter:
                return path
            urls = session.service.adapter_urls(training, self._name(), path)
        try:
            download_adapter(urls, directory)
        except RunError as error:
            raise RunError(f"{session.service.endpoint}: {path}: {error}; {RESUME_HINT}") from error
        return str(directory)

    @property
    def _ttl_s(self) -> int | None:
        return self._session.options.checkpoint_ttl_s or None

    def _name(self) -> str:
        """A name that this trainer has not used before."""
        self._saves += 1
        return f"update_{self._updates:06d}_{self._saves}"
