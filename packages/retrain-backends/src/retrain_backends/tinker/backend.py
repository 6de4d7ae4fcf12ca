"""The Tinker backend: another machine samples and trains, through the official SDK."""

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Self

from retrain_backends.config import RunConfig
from retrain_backends.errors import RunError
from retrain_backends.tinker.download import download_adapter
from retrain_backends.tinker.fidelity import measure
from retrain_backends.tinker.options import TinkerOptions, parse_options
from retrain_backends.tinker.sampling import GroupSampler, Limits
from retrain_backends.tinker.saved import Reference, SavedTrainer
from retrain_backends.tinker.service import RESUME_HINT, Sampler, Service, Trainer
from retrain_backends.tinker.throttle import open_throttle
from retrain_backends.tinker.updating import Updater, is_finite, step_result
from retrain_backends.tinker.usage import UsageMeter
from retrain_backends.tokenizer import resolve_model
from retrain_backends.types import (
    BackendFacts,
    Capabilities,
    CheckpointRef,
    Completion,
    Floats,
    OnGroup,
    Restored,
    SamplingParams,
    StepResult,
    Tokens,
    TrainBatch,
    Usage,
)


class TinkerBackend:
    """Samples from and trains an adapter that a service keeps.

    The adapter is made, or restored, when it is first needed, so that a run that is gone on with
    makes none in vain. Its requests are done by the service one after another, in order: a training
    step is one turn at the throttle.
    """

    capabilities = Capabilities(
        entropy=False,
        lora_alpha=False,
        resume="approximate",
        temperature=False,
        lora_dropout=False,
    )

    def __init__(self, service: Service, config: RunConfig, options: TinkerOptions) -> None:
        self._service = service
        self._config = config
        self._options = options
        # A call in front may take as long as any call, and is then given up by who made it.
        self._throttle = open_throttle(
            config.backend.throttle_dir, config.backend.max_concurrent, 2 * options.timeout_s
        )
        self._usage_meter = UsageMeter(options.prices, options.max_cost, options.max_hours)
        limits = Limits(
            config.backend.max_concurrent,
            self._throttle,
            options.timeout_s,
            options.max_failed_prompts,
        )
        self._groups = GroupSampler(service.endpoint, limits, self._usage_meter)
        self._bounds = config.algorithm.loss_options()
        self._updater = Updater(service, config, options)
        self._trainer: Trainer | None = None
        self._sampler: Sampler | None = None
        self._reference = Reference()
        self._updates = 0
        self._saves = 0

    @classmethod
    def from_config(cls, config: RunConfig) -> Self:
        """Connect, and make a new adapter unless an earlier run is gone on with.

        Raises:
          ConfigError: a wrong option, no key, or one that the service does not take.
          ModelError: the service has no such model.
          RunError: the service cannot be reached.
        """
        options = parse_options(config.backend.options)
        backend = cls(Service.connect(config.model.base_url, options), config, options)
        if not config.resume.from_:
            backend._get_trainer()
        return backend

    def sample(
        self,
        prompts: Sequence[Tokens],
        params: SamplingParams,
        on_group: OnGroup | None = None,
    ) -> list[list[Completion]]:
        """Sample groups with the newest weights; a prompt that failed has an empty group."""
        return self._groups.sample(self._get_sampler(), prompts, params, on_group)

    def score(
        self, prompts: Sequence[Tokens], completions: Sequence[Tokens], temperature: float
    ) -> list[Floats]:
        """Log-probs under the policy as it is trained; the service knows temperature 1 only."""
        del temperature
        if not completions:
            return []
        trainer = self._get_trainer()
        with self._throttle.slot():
            scores = self._service.score(trainer, prompts, completions)
        self._usage_meter.add(trained=sum(map(len, [*prompts, *completions])))
        return scores

    def train_step(self, batch: TrainBatch) -> StepResult:
        """One optimiser step; none when the batch itself is not finite.

        Raises:
          RunError: the service failed, or the loss that it found is not finite.
        """
        if not is_finite(batch):
            return step_result(batch, batch.logprobs_t, self._bounds, {})
        started = perf_counter()
        trainer = self._get_trainer()
        with self._throttle.slot():
            queue_s = perf_counter() - started
            update = self._updater.update(trainer, batch)
        self._updates += 1
        self._reference = Reference.from_batch(batch)
        self._usage_meter.add(trained=update.tokens)
        published = perf_counter()
        self._sampler = None
        self._get_sampler()
        times_s = {"queue": queue_s, **update.times_s, "publish": perf_counter() - published}
        result = step_result(batch, update.logprobs_t, self._bounds, times_s)
        if not result.is_finite:
            raise RunError(
                f"step {batch.step}: the loss is {result.loss}, and {self._service.endpoint} has"
                f" taken the optimiser step; {RESUME_HINT}; a lower training.lr may help"
            )
        return result

    def save(self, directory: Path) -> CheckpointRef:
        """Have the service keep weights and optimiser, and note what they are recognised by."""
        trainer = self._get_trainer()
        with self._throttle.slot():
            saving = trainer.save_state(self._name(), self._ttl_s)
            path = self._service.wait(saving, "saving the trainer").path
        prompts, completions = self._reference.rows()
        saved = SavedTrainer(
            path=path,
            updates=self._updates,
            reference=self._reference.with_logprobs(self.score(prompts, completions, 1.0)),
            usage=self._usage_meter.state(),
        )
        saved.write(directory)
        return CheckpointRef(directory, path)

    def load(self, ref: CheckpointRef) -> Restored:
        """Go on with what the service kept, and measure how exactly.

        Raises:
          RunError: the service does not have it any more, or has another policy there.
        """
        saved = SavedTrainer.read(ref.directory)
        with self._throttle.slot():
            self._trainer = self._service.saved_trainer(saved.path, with_optimizer=True)
        self._sampler = None
        self._updates, self._reference = saved.updates, saved.reference
        self._usage_meter.restore(saved.usage)
        prompts, completions = saved.reference.rows()
        scores = self.score(prompts, completions, 1.0)
        with self._throttle.slot():
            return measure(self._service, saved, scores, self._usage_meter)

    def export_adapter(self, directory: Path) -> str:
        """Have the service keep the adapter for sampling, and download it if that was asked for."""
        trainer, name = self._get_trainer(), self._name()
        with self._throttle.slot():
            saving = trainer.save_weights_for_sampler(name, self._ttl_s)
            path = self._service.wait(saving, "saving the adapter").path
            if not self._options.download_adapter:
                return path
            urls = self._service.adapter_urls(trainer, name, path)
        try:
            download_adapter(urls, directory)
        except RunError as error:
            raise RunError(f"{self._service.endpoint}: {path}: {error}; {RESUME_HINT}") from error
        return str(directory)

    def describe(self) -> BackendFacts:
        """A service, which promises nothing about its arithmetic."""
        return BackendFacts(
            "tinker",
            (),
            "not controlled",
            f"{self._service.endpoint} samples and trains, with arithmetic of its own",
            self._options.max_steps_off_policy,
        )

    def usage(self) -> Usage:
        """Tokens, cost and waiting since the last call."""
        used = self._usage_meter.take()
        return Usage({**used.figures, "queue_s": self._throttle.take_waited_s()}, used.stop)

    def close(self) -> None:
        """End the session, and the waits for a turn."""
        self._throttle.close()
        self._service.close()

    def _get_trainer(self) -> Trainer:
        if self._trainer is None:
            model = self._config.model
            with self._throttle.slot():
                self._trainer = self._service.new_trainer(
                    resolve_model(model.model), model.lora_rank, self._config.training.seed
                )
        return self._trainer

    def _get_sampler(self) -> Sampler:
        """Samples with the weights as they are now."""
        if self._sampler is None:
            trainer = self._get_trainer()
            with self._throttle.slot():
                self._sampler = self._service.new_sampler(trainer)
        return self._sampler

    @property
    def _ttl_s(self) -> int | None:
        return self._options.checkpoint_ttl_s or None

    def _name(self) -> str:
        """A name that this trainer has not used before."""
        self._saves += 1
        return f"update_{self._updates:06d}_{self._saves}"
