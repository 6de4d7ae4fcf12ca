"""One optimiser step on a service, and its result in the units of the local backend."""

from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import tinker

from retrain_backends.config import PolicySettings
from retrain_backends.tinker.datums import (
    ServiceLoss,
    datums_to_train,
    split_by_tokens,
)
from retrain_backends.tinker.options import TinkerOptions
from retrain_backends.tinker.service import Service, TrainingClient
from retrain_backends.types import Floats, StepResult, TrainBatch
from retrain_core import LossOptions, policy_loss


@dataclass(frozen=True)
class Update:
    """The outcome of a step.

    `logprobs_t`: of the batch's tokens before the step, nats, shape (t,); `tokens`: of the whole
    sequences that were trained on; `times_s`: the parts of the step by name.
    """

    logprobs_t: Floats
    tokens: int
    times_s: Mapping[str, float]


class Updater:
    """Takes optimiser steps: AdamW on the configured policy-gradient loss.

    Args:
      service: of the trainer.
      settings: of the policy.
      options: of the backend.
    """

    def __init__(self, service: Service, settings: PolicySettings, options: TinkerOptions) -> None:
        self._service = service
        self._options = options
        self._loss = ServiceLoss.of(settings.loss)
        self._adam = tinker.AdamParams(
            learning_rate=settings.lr,
            beta1=settings.optimizer.beta1,
            beta2=settings.optimizer.beta2,
            eps=settings.optimizer.eps,
            weight_decay=settings.weight_decay,
        )

    def update(self, trainer: TrainingClient, batch: TrainBatch) -> Update:
        """One step on a batch.

        Gradient and step are submitted together and then awaited, which saves a round trip, unless
        the options say otherwise. The service takes the step even if the loss is not finite.

        Raises:
          RunError: the service failed, or sent an invalid output.
        """
        doing = f"training step {batch.step}"
        started = perf_counter()
        datums = datums_to_train(batch)
        gradients = [
            trainer.forward_backward(part, self._loss.name, self._loss.config)
            for part in split_by_tokens(datums, self._options.step_tokens)
        ]
        if self._options.wait_for_gradient:
            for gradient in gradients:
                self._service.wait(gradient, doing)
        step = trainer.optim_step(self._adam)
        outputs = [
            output
            for gradient in gradients
            for output in self._service.wait(gradient, doing).loss_fn_outputs
        ]
        found_at = perf_counter()
        self._service.wait(step, doing)
        lengths = np.diff(batch.token_offsets_n).tolist()
        return Update(
            np.concatenate(self._service.logprobs(outputs, lengths, doing)),
            sum(datum.model_input.length + 1 for datum in datums),  # inputs lack the last token
            {"gradient": found_at - started, "update": perf_counter() - found_at},
        )


def is_finite(batch: TrainBatch) -> bool:
    """Whether all trained advantages and log-probs are finite."""
    values = (batch.weighted_advantages_t, batch.logprobs_t)
    return all(bool(np.isfinite(value[batch.trained_t]).all()) for value in values)


def step_result(
    batch: TrainBatch, new_t: Floats, bounds: LossOptions, times_s: Mapping[str, float]
) -> StepResult:
    """The result of a step as the local backend reports it.

    Args:
      batch: of the step.
      new_t: the trainer's log-probs of its tokens before the step, nats, shape (t,).
      bounds: on the ratio.
      times_s: the parts of the step by name.
    """
    result = policy_loss(
        new_t, batch.logprobs_t, batch.weighted_advantages_t, batch.trained_t, bounds
    )
    return StepResult(
        loss=result.loss,
        num_tokens=result.num_tokens,
        grad_norm=None,
        mean_abs_logprob_diff=result.mean_abs_logprob_diff,
        kl_k3=result.kl_k3,
        ratio_p99=result.ratio_p99,
        ratio_max=result.ratio_max,
        clip_fraction=result.clip_fraction,
        times_s=times_s,
    )
