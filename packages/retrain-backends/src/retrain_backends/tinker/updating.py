"""One optimiser step on a service, and its result in the units of the local backend."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from logging import getLogger
from time import perf_counter
from typing import Any

import numpy as np
import tinker

from retrain_backends.config import PolicySettings
from retrain_backends.tinker.datums import (
    ServiceLoss,
    datums_to_train,
    rows,
    split_by_tokens,
)
from retrain_backends.tinker.options import TinkerOptions
from retrain_backends.tinker.service import Service, TrainingClient, UnreadableError
from retrain_backends.types import Floats, StepResult, TrainBatch
from retrain_core import LossOptions, policy_loss

# The names that the in-process server, SkyRL and the public service have for it.
_GRAD_NORM = re.compile(r"(.*/)?(grad_norm|unclipped_grad_l2:mean)")

log = getLogger(__name__)


@dataclass(frozen=True)
class Update:
    """The outcome of a step.

    `logprobs_t`: of the batch's tokens before the step, nats, shape (t,), None if the answer could
    not be read; `grad_norm`: norm of the gradient that the step used, None if it is not reported;
    `tokens`: of the whole sequences that were trained on; `times_s`: the parts of the step by name.
    """

    logprobs_t: Floats | None
    grad_norm: float | None
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
        self._warned = False

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
        logprobs_t = None
        if self._options.wait_for_gradient:
            logprobs_t = self._logprobs(gradients, batch, doing)
            if logprobs_t is None:  # the weights are still those of the gradient
                logprobs_t = self._scored(trainer, batch)
        step = trainer.optim_step(self._adam)
        if logprobs_t is None:
            logprobs_t = self._logprobs(gradients, batch, doing)
        found_at = perf_counter()
        norm = self._grad_norm(step, doing)
        return Update(
            logprobs_t,
            norm,
            sum(datum.model_input.length + 1 for datum in datums),  # inputs lack the last token
            {"gradient": found_at - started, "update": perf_counter() - found_at},
        )

    def _logprobs(self, gradients: Sequence[Any], batch: TrainBatch, doing: str) -> Floats | None:
        """The log-probs in the answers of the gradient; None if one of them cannot be read."""
        try:
            answers = [self._service.wait(gradient, doing) for gradient in gradients]
        except UnreadableError as error:
            log.warning("%s; the gradient is used, but figures of the step are missing", error)
            return None
        outputs = [output for answer in answers for output in answer.loss_fn_outputs]
        lengths = np.diff(batch.token_offsets_n).tolist()
        return np.concatenate(self._service.logprobs(outputs, lengths, doing))

    def _scored(self, trainer: TrainingClient, batch: TrainBatch) -> Floats:
        prompts, slices = zip(*rows(batch), strict=True)
        completions = [batch.tokens_t[own] for own in slices]
        return np.concatenate(self._service.score(trainer, prompts, completions))

    def _grad_norm(self, step: Any, doing: str) -> float | None:
        """The norm of the gradient that an optimiser step has used; None if it is not known."""
        try:
            metrics = self._service.wait(step, doing).metrics or {}
        except UnreadableError as error:
            log.warning("%s; the step is taken, but its grad_norm is missing", error)
            return None
        norms = (value for name, value in metrics.items() if _GRAD_NORM.fullmatch(name))
        norm = next(norms, None)
        if norm is None and self._service.is_own and not self._warned:
            self._warned = True
            log.warning(
                "%s does not report the norm of the gradient, so a step that it executes twice is"
                " not noticed; see `Lost answers` in the documentation of the Tinker backend",
                self._service.endpoint,
            )
        return norm


def is_finite(batch: TrainBatch) -> bool:
    """Whether all trained advantages and log-probs are finite."""
    values = (batch.weighted_advantages_t, batch.logprobs_t)
    return all(bool(np.isfinite(value[batch.trained_t]).all()) for value in values)


def step_result(batch: TrainBatch, update: Update, bounds: LossOptions) -> StepResult:
    """The result of a step as the local backend reports it.

    Args:
      batch: of the step.
      update: the service's part.
      bounds: on the ratio.
    """
    num_tokens = int(batch.trained_t.sum())
    if update.logprobs_t is None:
        unknown = (None,) * 5
        return StepResult(None, num_tokens, update.grad_norm, *unknown, times_s=update.times_s)
    result = policy_loss(
        update.logprobs_t, batch.logprobs_t, batch.weighted_advantages_t, batch.trained_t, bounds
    )
    return StepResult(
        loss=result.loss,
        num_tokens=result.num_tokens,
        grad_norm=update.grad_norm,
        mean_abs_logprob_diff=result.mean_abs_logprob_diff,
        kl_k3=result.kl_k3,
        ratio_p99=result.ratio_p99,
        ratio_max=result.ratio_max,
        clip_fraction=result.clip_fraction,
        times_s=update.times_s,
    )
