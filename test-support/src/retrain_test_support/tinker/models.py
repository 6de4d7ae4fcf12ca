"""The state of the test server: sessions, models in training, samplers and checkpoints."""

import threading
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple

from retrain_test_support.tinker.failures import Failures
from retrain_test_support.tinker.futures import FutureTable, RefusedError, RequestQueue
from retrain_test_support.tinker.policy import (
    AdamState,
    BigramPolicy,
    LoraWeights,
    first_adapter,
    zeros_like,
)

_TOGETHER_S = 60.0  # longest wait for calls to be under way at once


class Executed(NamedTuple):
    """One operation of the server, in `TinkerServer.log`."""

    what: str
    model_id: str = ""
    details: dict[str, Any] = {}  # noqa: RUF012 - never written


@dataclass
class Model:
    """One training client's model; only its queue changes its weights."""

    model_id: str
    base_model: str
    lora: dict[str, Any]
    adapter: LoraWeights
    adam: AdamState
    gradient: LoraWeights
    queue: RequestQueue

    @property
    def rank(self) -> int:
        """Rank of the adapter."""
        return self.lora["rank"]


class SavedCheckpoint(NamedTuple):
    """A checkpoint; `adam` is None where only the weights were saved."""

    path: str
    base_model: str
    lora: dict[str, Any]
    adapter: LoraWeights
    adam: AdamState | None
    ttl_seconds: int | None
    time: datetime


class SamplingSession(NamedTuple):
    """A sampling session: whose weights it draws from, None for the base model."""

    sampler_id: str
    base_model: str
    adapter: LoraWeights | None
    model_path: str | None = None


@dataclass
class ServerLog:
    """Operations and statistics of a server, for tests."""

    events: list[Executed] = field(default_factory=list)
    most_at_once: Counter[str] = field(default_factory=Counter)
    errors: list[BaseException] = field(default_factory=list)
    _lock: threading.Condition = field(default_factory=threading.Condition)
    _now: Counter[str] = field(default_factory=Counter)

    def note(self, what: str, model_id: str = "", **details: Any) -> None:
        """Record an operation."""
        with self._lock:
            self.events.append(Executed(what, model_id, details))

    def enter(self, what: str) -> None:
        """Count a request that begins."""
        with self._lock:
            self._now[what] += 1
            self.most_at_once[what] = max(self.most_at_once[what], self._now[what])
            self._lock.notify_all()

    def wait_for_most(self, what: str, number: int) -> None:
        """Wait until so many of that kind have been under way at once.

        Raises:
          TimeoutError: they never were.
        """
        with self._lock:
            if not self._lock.wait_for(lambda: self.most_at_once[what] >= number, _TOGETHER_S):
                raise TimeoutError(f"never {number} of `{what}` at once")

    def leave(self, what: str) -> None:
        """Count a request that has ended."""
        with self._lock:
            self._now[what] -= 1


@dataclass
class ServerState:
    """Everything the server stores. Only whole entries are added and removed."""

    vocabulary: int
    names: tuple[str, ...]
    futures: FutureTable
    sessions: dict[str, dict[str, Any]] = field(default_factory=dict)
    models: dict[str, Model] = field(default_factory=dict)
    samplers: dict[str, SamplingSession] = field(default_factory=dict)
    saved: dict[str, SavedCheckpoint] = field(default_factory=dict)

    def open_model(self, model_id: str, base_model: str, lora: dict[str, Any], seed: int) -> Model:
        """A new model with fresh weights."""
        adapter = first_adapter(self.vocabulary, lora["rank"], seed)
        nothing = zeros_like(adapter)
        model = Model(
            model_id=model_id,
            base_model=base_model,
            lora=lora,
            adapter=adapter,
            adam=AdamState(0, nothing, nothing),
            gradient=nothing,
            queue=RequestQueue(self.futures, model_id),
        )
        self.models[model_id] = model
        return model

    def load(self, model: Model, path: str, with_optimizer: bool) -> None:
        """Load saved weights into a model, and the optimiser's state if requested.

        Raises:
          RefusedError: there is no such checkpoint, or it does not fit.
        """
        saved = self.checkpoint(path)
        if saved.lora["rank"] != model.rank:
            raise RefusedError(f"{path} has rank {saved.lora['rank']}, the model {model.rank}")
        if with_optimizer and saved.adam is None:
            raise RefusedError(f"{path} holds no optimizer state")
        nothing = zeros_like(saved.adapter)
        model.adapter, model.gradient = saved.adapter, nothing
        cold = AdamState(0, nothing, nothing)
        model.adam = saved.adam if with_optimizer and saved.adam is not None else cold

    def checkpoint(self, path: str) -> SavedCheckpoint:
        """The checkpoint of that path.

        Raises:
          RefusedError: there is none.
        """
        if path not in self.saved:
            raise RefusedError(f"checkpoint {path} not found")
        return self.saved[path]

    def forget_sessions(self) -> None:
        """Drop everything but the checkpoints, as when the service expires sessions."""
        self.sessions.clear()
        self.models.clear()
        self.samplers.clear()
        self.futures.forget()


@dataclass
class Behaviour:
    """What differs between services; may be changed while the server runs.

    Args:
      logprobs: at a temperature other than 1 a sample's log-probs are those of the distribution
        drawn from ("tempered") or those at temperature 1 ("raw").
      optimizer_restore: restoring "with optimizer" restores Adam's state ("exact"), or reports so
        and begins with a new one ("cold").
      batched_futures: have SDKs that support it poll for all samples of a session at once.
      key: the API key that is accepted; None accepts any.
      poll_s: how long a poll for a result is held open.
      context_length: longest prompt and completion together.
      forgets_requests: a request that is sent again, because its answer was lost, is executed
        again, as by SkyRL; not to be changed once a model is trained.
      grad_norm: what `optim_step` calls the norm of the gradient; None does not report it.
      short_paths: the paths of sampler weights lack `sampler_weights/`, as SkyRL's do.
      target_modules: what the configuration of a downloaded adapter names; SkyRL writes None.
    """

    logprobs: Literal["tempered", "raw"] = "tempered"
    optimizer_restore: Literal["exact", "cold"] = "exact"
    batched_futures: bool = False
    key: str | None = None
    poll_s: float = 10.0
    context_length: int = 32768
    forgets_requests: bool = False
    grad_norm: str | None = "grad_norm"
    short_paths: bool = False
    target_modules: tuple[str, ...] | None = ("lm_head",)


class ServerContext(NamedTuple):
    """All parts of one server."""

    policy: BigramPolicy
    eos: frozenset[int]
    state: ServerState
    failures: Failures
    log: ServerLog
    behaviour: Behaviour
