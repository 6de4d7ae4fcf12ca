"""What can go wrong on the way to the test server and in it, on demand."""

import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum

from retrain_test_support.tinker.futures import RefusedError


class Kind(Enum):
    """Kinds of HTTP requests, for failures that strike some of them only."""

    SESSION = "session"  # configuration, capabilities, sessions, models' and samplers' facts
    CREATE = "create"  # create_model, load_weights, create_sampling_session
    TRAIN = "train"  # forward, forward_backward, optim_step, save_*
    SAMPLE = "sample"  # asample
    RETRIEVE = "retrieve"  # retrieve_future, retrieve_futures
    REST = "rest"  # what the service knows of checkpoints
    FILE = "file"  # downloads of their files


class Fate(Enum):
    """What becomes of an HTTP request that is not answered with an error."""

    SERVED = "served"
    DROPPED = "dropped"  # the connection breaks before anything was done
    ANSWER_LOST = "answer_lost"  # done, and the connection breaks before the answer


@dataclass
class Failures:
    """Failures of a running `TinkerServer`; every field may be changed at any time.

    A share is a probability per request, drawn from a stream of its own; a number counts down as
    its failures happen. `counts` says how often each has happened.

    Args:
      seed: of the stream for the shares.
      error_share: HTTP requests answered with one of `statuses`, picked at random.
      statuses: HTTP statuses of failing requests.
      drop_share: HTTP requests whose connection breaks before they are read.
      lost_answer_share: HTTP requests that are done, and whose connection breaks then.
      storm: so many HTTP requests fail, the next ones, with `storm_status`.
      storm_status: as named; 0 breaks the connection, -1 does so after the request is done.
      kinds: the kinds of HTTP requests that all of the above is about.
      retry_after_s: sent with an error status ("retry-after-ms"); None sends nothing. It decides
        how long the SDK's inner retries wait.
      failed_samples: so many `sample` futures end as "request failed".
      failed_forward_backwards: so many `forward_backward` futures do, without a gradient.
      failed_optim_steps: so many `optim_step` futures do, without a step.
      failed_saves: so many futures of saving do.
      short_answers: so many answers of `forward` and `forward_backward` lack their last output.
      category: whose fault these failed futures are: "server", "user" or "unknown".
      paused_polls: so many polls for a future's result are told to try again, as when the service
        has no capacity ("paused_capacity").
      sample_delay_s: how long a `sample` takes.
      train_delay_s: how long a `forward_backward` and an `optim_step` take.
      answer_delay_s: how long every HTTP answer of `kinds` is held back.
    """

    seed: int = 0
    error_share: float = 0.0
    statuses: tuple[int, ...] = (429, 500, 502, 504)
    drop_share: float = 0.0
    lost_answer_share: float = 0.0
    storm: int = 0
    storm_status: int = 503
    kinds: frozenset[Kind] = frozenset(Kind)
    retry_after_s: float | None = None
    failed_samples: int = 0
    failed_forward_backwards: int = 0
    failed_optim_steps: int = 0
    failed_saves: int = 0
    short_answers: int = 0
    category: str = "server"
    paused_polls: int = 0
    sample_delay_s: float = 0.0
    train_delay_s: float = 0.0
    answer_delay_s: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def fate(self, kind: Kind) -> Fate | int:
        """What becomes of one HTTP request: a fate, or the status of an error."""
        if kind not in self.kinds:
            return Fate.SERVED
        time.sleep(self.answer_delay_s)
        if self.happens("storm"):
            return {0: Fate.DROPPED, -1: Fate.ANSWER_LOST}.get(self.storm_status, self.storm_status)
        with self._lock:
            drawn = self._random.random()
            status = self._random.choice(self.statuses)
            for name, share, fate in (
                (f"status_{status}", self.error_share, status),
                ("drop", self.drop_share, Fate.DROPPED),
                ("lost_answer", self.lost_answer_share, Fate.ANSWER_LOST),
            ):
                if drawn < share:
                    self.counts[name] += 1
                    return fate
                drawn -= share
        return Fate.SERVED

    def happens(self, name: str) -> bool:
        """Take one off a number, if there is one left."""
        with self._lock:
            left = getattr(self, name)
            if left <= 0:
                return False
            setattr(self, name, left - 1)
            self.counts[name] += 1
            return True

    def strike(self, name: str) -> None:
        """Fail a request's future if the number of that name says so.

        Raises:
          RefusedError: it is this one's turn.
        """
        if self.happens(name):
            raise RefusedError(f"made to fail by the test ({name})", self.category)
