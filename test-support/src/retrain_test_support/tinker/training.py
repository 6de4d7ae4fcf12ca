"""Training on the test server: forward, backward, optimiser steps, saving and loading."""

import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np

from retrain_test_support.tinker.futures import Outcome, RefusedError, ServerFuture
from retrain_test_support.tinker.losses import loss
from retrain_test_support.tinker.models import (
    Model,
    SamplingSession,
    SavedCheckpoint,
    ServerContext,
)
from retrain_test_support.tinker.policy import (
    AdamSettings,
    adam_step,
    add,
    gradient_norm,
    zeros_like,
)
from retrain_test_support.tinker.wire import Datum, TrainRequest, write_train_output

Body = Mapping[str, Any]

# The service keeps a checkpoint for one hour to ten years, or for ever.
_TTL_SECONDS = (3600, 10 * 366 * 24 * 3600)


class Training:
    """The requests of training clients, each processed in its model's queue."""

    def __init__(self, context: ServerContext) -> None:
        self._context = context

    def forward_backward(self, model: Model, request: TrainRequest) -> ServerFuture:
        """Log-probs of all targets, and the gradient of their loss added to the model's."""
        return model.queue.submit(request.seq_id, lambda: self._forward_backward(model, request))

    def optim_step(self, model: Model, body: Body) -> ServerFuture:
        """One Adam step with the gradient accumulated so far."""
        settings = AdamSettings(**(body.get("adam_params") or {}))
        return model.queue.submit(body["seq_id"], lambda: self._optim_step(model, settings))

    def save(self, model: Model, body: Body, folder: str) -> ServerFuture:
        """Save the weights; in the folder `weights`, the optimiser's state too."""
        return model.queue.submit(body["seq_id"], lambda: self._save(model, body, folder))

    def load(self, model: Model, body: Body) -> ServerFuture:
        """Replace a model's weights by a checkpoint's."""
        return model.queue.submit(body["seq_id"], lambda: self._load(model, body))

    def create(self, model_id: str, base_model: str, lora: dict[str, Any]) -> ServerFuture:
        """A new model with fresh weights."""

        def work() -> Outcome:
            # Without a seed every model gets other weights.
            seed = lora.get("seed")
            drawn = secrets.randbits(32) if seed is None else seed
            self._context.state.open_model(model_id, base_model, lora, drawn)
            self._context.log.note("create_model", model_id, **lora)
            return Outcome({"model_id": model_id})

        return self._context.state.futures.submit(("create", model_id), work)

    def create_by_loading(self, model_id: str, body: Body) -> ServerFuture:
        """A new model from a checkpoint."""

        def work() -> Outcome:
            state = self._context.state
            saved = state.checkpoint(body["path"])
            base_model = body.get("base_model") or saved.base_model
            model = state.open_model(model_id, base_model, saved.lora, seed=0)
            return self._load(model, body)

        return self._context.state.futures.submit(("create", model_id), work)

    def _forward_backward(self, model: Model, request: TrainRequest) -> Outcome:
        what = "forward" if request.forward_only else "forward_backward"
        time.sleep(self._context.failures.train_delay_s)
        if not request.forward_only:
            self._context.failures.fail_if_due("failed_forward_backwards")
        policy, total, logprobs = self._context.policy, 0.0, []
        gradient = model.gradient
        for datum in request.data:
            self._check(datum)
            logprobs_T = policy.logprobs(datum.inputs_T, datum.targets_T, model.adapter)
            value, slope_T = _loss(request, logprobs_T, datum)
            total += value
            logprobs.append(logprobs_T)
            if not request.forward_only:
                gradient = add(
                    gradient,
                    policy.gradient(datum.inputs_T, datum.targets_T, slope_T, model.adapter),
                )
        model.gradient = gradient
        self._context.log.note(
            what,
            model.model_id,
            seq_id=request.seq_id,
            loss_fn=request.loss_fn,
            data=len(request.data),
            tokens=sum(len(datum.inputs_T) for datum in request.data),
        )
        if self._context.failures.is_due("short_answers"):
            logprobs.pop()
        return Outcome(message=write_train_output(logprobs, {"loss:sum": total}))

    def _optim_step(self, model: Model, settings: AdamSettings) -> Outcome:
        time.sleep(self._context.failures.train_delay_s)
        self._context.failures.fail_if_due("failed_optim_steps")
        norm = gradient_norm(model.gradient)
        model.adapter, model.adam = adam_step(model.adapter, model.gradient, model.adam, settings)
        model.gradient = zeros_like(model.adapter)
        self._context.log.note("optim_step", model.model_id, **settings._asdict(), grad_norm=norm)
        name = self._context.behaviour.grad_norm
        return Outcome({"metrics": {} if name is None else {name: norm}})

    def _save(self, model: Model, body: Body, folder: str) -> Outcome:
        self._context.failures.fail_if_due("failed_saves")
        ttl = _checked_ttl(body.get("ttl_seconds"))
        what = f"save_{folder}"
        if body.get("path") is None:
            return self._publish(model, body)
        path = f"tinker://{model.model_id}/{folder}/{body['path']}"
        if path in self._context.state.saved and not body.get("overwrite"):
            raise RefusedError(f"checkpoint {path} already exists")
        adam = model.adam if folder == "weights" else None
        self._context.state.saved[path] = SavedCheckpoint(
            path, model.base_model, model.lora, model.adapter, adam, ttl, datetime.now(UTC)
        )
        self._context.log.note(what, model.model_id, path=path, ttl_seconds=ttl)
        if self._context.behaviour.short_paths:
            path = path.replace("/sampler_weights/", "/")
        return Outcome({"path": path})

    def _publish(self, model: Model, body: Body) -> Outcome:
        if body.get("kind", "snapshot") != "snapshot":
            raise RefusedError("this server's samplers are snapshots")
        session_id = model.model_id.split(":")[0]
        sampler_id = f"{session_id}:sample:{body['sampling_session_seq_id']}"
        self._context.state.samplers[sampler_id] = SamplingSession(
            sampler_id, model.base_model, model.adapter
        )
        self._context.log.note("publish", model.model_id, sampler_id=sampler_id)
        return Outcome({"sampling_session_id": sampler_id})

    def _load(self, model: Model, body: Body) -> Outcome:
        exact = self._context.behaviour.optimizer_restore == "exact"
        wanted = bool(body["optimizer"])
        if wanted and self._context.state.checkpoint(body["path"]).adam is None:
            raise RefusedError(f"{body['path']} holds no optimizer state")
        self._context.state.load(model, body["path"], wanted and exact)
        self._context.log.note("load", model.model_id, path=body["path"], optimizer=wanted)
        return Outcome({"path": body["path"], "model_id": model.model_id})

    def _check(self, datum: Datum) -> None:
        tokens = np.concatenate([datum.inputs_T, datum.targets_T])
        if tokens.size == 0:
            raise RefusedError("a datum is empty")
        if tokens.min() < 0 or tokens.max() >= self._context.policy.vocabulary:
            raise RefusedError(f"tokens must be 0 to {self._context.policy.vocabulary - 1}")


def _loss(request: TrainRequest, logprobs_T: np.ndarray, datum: Datum) -> Any:
    # A border: the client may have sent invalid inputs.
    try:
        return loss(request.loss_fn, logprobs_T, datum.loss, request.config)
    except ValueError as error:
        raise RefusedError(str(error)) from error


def _checked_ttl(seconds: int | None) -> int | None:
    low, high = _TTL_SECONDS
    if seconds is not None and not low <= seconds <= high:
        raise RefusedError(f"ttl_seconds must be {low} to {high}, got {seconds}")
    return seconds
