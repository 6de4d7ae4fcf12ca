"""What the test server keeps: sessions, models in training, samplers and checkpoints."""

import threading
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple

from retrain_test_support.tinker.failures import Failures
from retrain_test_support.tinker.futures import Line, Promises, RefusedError
from retrain_test_support.tinker.policy import (
    AdamState,
    Adapter,
    BigramPolicy,
    first_adapter,
    zeros_like,
)


class Executed(NamedTuple):
    """One thing that the server has done, in `TinkerServer.log`."""

    what: str
    model_id: str = ""
    details: dict[str, Any] = {}  # noqa: RUF012 - never written


@dataclass
class Model:
    """One training client's model; its weights change in its line only."""

    model_id: str
    base_model: str
    lora: dict[str, Any]
    adapter: Adapter
    adam: AdamState
    gradient: Adapter
    line: Line

    @property
    def rank(self) -> int:
        """Rank of the adapter."""
        return self.lora["rank"]


class Saved(NamedTuple):
    """A checkpoint; `adam` is None where only the weights were saved."""

    path: str
    base_model: str
    lora: dict[str, Any]
    adapter: Adapter
    adam: AdamState | None
    ttl_seconds: int | None
    time: datetime


class Sampler(NamedTuple):
    """A sampling session: whose weights it draws from, None for the base model."""

    sampler_id: str
    base_model: str
    adapter: Adapter | None
    model_path: str | None = None


@dataclass
class Journal:
    """What was done and seen, for tests to look at."""

    log: list[Executed] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    most_at_once: Counter[str] = field(default_factory=Counter)
    errors: list[BaseException] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _now: Counter[str] = field(default_factory=Counter)

    def note(self, what: str, model_id: str = "", **details: Any) -> None:
        """Something was done."""
        with self._lock:
            self.log.append(Executed(what, model_id, details))
            self.counts[what] += 1

    def enter(self, what: str) -> None:
        """One more of that kind is under way."""
        with self._lock:
            self._now[what] += 1
            self.most_at_once[what] = max(self.most_at_once[what], self._now[what])

    def leave(self, what: str) -> None:
        """One less of that kind is under way."""
        with self._lock:
            self._now[what] -= 1


@dataclass
class Holdings:
    """Everything the server keeps. Only whole entries are added and removed."""

    vocabulary: int
    names: tuple[str, ...]
    promises: Promises
    sessions: dict[str, dict[str, Any]] = field(default_factory=dict)
    models: dict[str, Model] = field(default_factory=dict)
    samplers: dict[str, Sampler] = field(default_factory=dict)
    saved: dict[str, Saved] = field(default_factory=dict)

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
            line=Line(self.promises, model_id),
        )
        self.models[model_id] = model
        return model

    def load(self, model: Model, path: str, with_optimizer: bool) -> None:
        """Put saved weights into a model, and the optimiser's state if asked for.

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

    def checkpoint(self, path: str) -> Saved:
        """The checkpoint of that path.

        Raises:
          RefusedError: there is none.
        """
        if path not in self.saved:
            raise RefusedError(f"checkpoint {path} not found")
        return self.saved[path]

    def forget_sessions(self) -> None:
        """Lose all but the checkpoints, as when the service gives up sessions."""
        self.sessions.clear()
        self.models.clear()
        self.samplers.clear()
        self.promises.forget()


@dataclass
class Behaviour:
    """Where services differ, and a backend must find out; may be changed while the server runs.

    Args:
      logprobs: at a temperature other than 1 a sample's log-probs are those of the distribution
        drawn from ("tempered") or those at temperature 1 ("raw").
      optimizer_restore: restoring "with optimizer" brings Adam's state back ("exact"), or claims to
        and starts afresh ("cold").
      batched_futures: tell SDKs that can to poll for all samples of a session at once.
      key: the API key that is accepted, None for any.
      poll_s: how long a poll for a result is held open.
      context_length: longest prompt and completion together.
    """

    logprobs: Literal["tempered", "raw"] = "tempered"
    optimizer_restore: Literal["exact", "cold"] = "exact"
    batched_futures: bool = False
    key: str | None = None
    poll_s: float = 10.0
    context_length: int = 32768


class World(NamedTuple):
    """All parts of one server."""

    policy: BigramPolicy
    eos: frozenset[int]
    holdings: Holdings
    failures: Failures
    journal: Journal
    behaviour: Behaviour
