"""Failures of the test server and of the connections to it, on demand."""

import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum

from retrain_test_support.tinker.futures import RefusedError


class RequestKind(Enum):
    """Kinds of HTTP requests, for failures of some of them only."""

    SESSION = "session"  # configuration, capabilities, sessions, models' and samplers' facts
    CREATE = "create"  # create_model, load_weights, create_sampling_session
    TRAIN = "train"  # forward, forward_backward, save_*
    STEP = "step"  # optim_step
    SAMPLE = "sample"  # asample
    RETRIEVE = "retrieve"  # retrieve_future, retrieve_futures
    REST = "rest"  # what the service knows of checkpoints
    FILE = "file"  # downloads of their files


class Delivery(Enum):
    """How far an HTTP request gets that is not answered with an error."""

    SERVED = "served"  # processed and answered
    DROPPED = "dropped"  # the connection breaks before the request is processed
    ANSWER_LOST = "answer_lost"  # processed, and the connection breaks before the answer
    ANSWER_BROKEN = "answer_broken"  # processed, and answered with success and a damaged body


@dataclass
class Failures:
    """Failures of a running `TinkerServer`; every field may be changed at any time.

    A share is a probability per request, drawn from a random stream of its own; a number counts
    down with every failure. `counts` has how often each has happened.

    Args:
      seed: of the stream for the shares.
      error_share: HTTP requests answered with one of `statuses`, picked at random.
      statuses: HTTP statuses of failing requests.
      drop_share: HTTP requests whose connection breaks before they are read.
      lost_answer_share: HTTP requests that are processed, and whose connection breaks then.
      storm: the number of HTTP requests, the next ones, that fail with `storm_status`.
      storm_after: the number of HTTP requests that are served before the storm.
      storm_status: 0 breaks the connection, -1 does so after the request has been processed, 200
        processes it and answers with success and a damaged body.
      kinds: the kinds of HTTP requests to which all of the above applies.
      retry_after_s: sent with an error status ("retry-after-ms"); None sends nothing. It sets how
        long the SDK's inner retries wait.
      failed_samples: number of `sample` futures that end as "request failed".
      failed_forward_backwards: the same of `forward_backward`; no gradient is added.
      failed_optim_steps: the same of `optim_step`; no step is taken.
      failed_saves: the same of saving.
      short_answers: number of answers of `forward` and `forward_backward` without the last output.
      category: the cause that these failed futures report: "server", "user" or "unknown".
      paused_polls: number of polls for a future that are answered with "try again", as when the
        service has no capacity ("paused_capacity").
      sample_delay_s: how long a `sample` takes.
      samples_together: no `sample` ends before so many have been under way at once.
      train_delay_s: how long a `forward_backward` and an `optim_step` take.
      answer_delay_s: how long every HTTP answer of `kinds` is held back.
    """

    seed: int = 0
    error_share: float = 0.0
    statuses: tuple[int, ...] = (429, 500, 502, 504)
    drop_share: float = 0.0
    lost_answer_share: float = 0.0
    storm: int = 0
    storm_after: int = 0
    storm_status: int = 503
    kinds: frozenset[RequestKind] = frozenset(RequestKind)
    retry_after_s: float | None = None
    failed_samples: int = 0
    failed_forward_backwards: int = 0
    failed_optim_steps: int = 0
    failed_saves: int = 0
    short_answers: int = 0
    category: str = "server"
    paused_polls: int = 0
    sample_delay_s: float = 0.0
    samples_together: int = 0
    train_delay_s: float = 0.0
    answer_delay_s: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def delivery(self, kind: RequestKind) -> Delivery | int:
        """How far one HTTP request gets, or the status of the error that it is answered with."""
        if kind not in self.kinds:
            return Delivery.SERVED
        time.sleep(self.answer_delay_s)
        if not self.is_due("storm_after") and self.is_due("storm"):
            deliveries = {
                0: Delivery.DROPPED,
                -1: Delivery.ANSWER_LOST,
                200: Delivery.ANSWER_BROKEN,
            }
            return deliveries.get(self.storm_status, self.storm_status)
        with self._lock:
            drawn = self._random.random()
            status = self._random.choice(self.statuses)
            for name, share, delivery in (
                (f"status_{status}", self.error_share, status),
                ("drop", self.drop_share, Delivery.DROPPED),
                ("lost_answer", self.lost_answer_share, Delivery.ANSWER_LOST),
            ):
                if drawn < share:
                    self.counts[name] += 1
                    return delivery
                drawn -= share
        return Delivery.SERVED

    def is_due(self, name: str) -> bool:
        """Count a failure down; whether there was one left."""
        with self._lock:
            left = getattr(self, name)
            if left <= 0:
                return False
            setattr(self, name, left - 1)
            self.counts[name] += 1
            return True

    def fail_if_due(self, name: str) -> None:
        """Fail a request's future if failures of that name are left.

        Raises:
          RefusedError: one was left.
        """
        if self.is_due(name):
            raise RefusedError(f"made to fail by the test ({name})", self.category)
