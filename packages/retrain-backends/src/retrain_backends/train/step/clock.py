"""Times of the parts of a step, and of the waits between engine and trainer."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from time import perf_counter


class Stopwatch:
    """The total time in which at least one of its blocks runs, in any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._running = 0
        self._started = 0.0
        self._total_s = 0.0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Measure the block."""
        self._change(1)
        try:
            yield
        finally:
            self._change(-1)

    def total_s(self) -> float:
        """Seconds until now."""
        with self._lock:
            running_s = perf_counter() - self._started if self._running else 0.0
            return self._total_s + running_s

    def _change(self, blocks: int) -> None:
        with self._lock:
            if not self._running:
                self._started = perf_counter()
            self._running += blocks
            if not self._running:
                self._total_s += perf_counter() - self._started


class StepClock:
    """Measures one step, which starts when the clock is made.

    with clock("sample"):
        ...

    Args:
      sampling: runs while an engine beside the trainer samples; None: there is no such engine.
    """

    def __init__(self, sampling: Stopwatch | None = None) -> None:
        self._started = perf_counter()
        self._parts_s: dict[str, float] = {}
        self._sampling = sampling
        self._sampled_before_s = sampling.total_s() if sampling else 0.0

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Measure the block as a part of the step, or as more of that part."""
        started = perf_counter()
        yield
        self._parts_s[part] = self._parts_s.get(part, 0.0) + perf_counter() - started

    @property
    def parts_s(self) -> Mapping[str, float]:
        """Seconds of each finished part, in the order of completion."""
        return self._parts_s

    def elapsed_s(self) -> float:
        """Seconds since the step began."""
        return perf_counter() - self._started

    def waits_s(self) -> Mapping[str, float | None]:
        """Seconds that the trainer waited for completions, and that the engine sampled nothing.

        None without an engine beside the trainer.
        """
        rollout_wait_s = engine_wait_s = None
        if self._sampling:
            rollout_wait_s = self._parts_s.get("sample", 0.0)
            sampled_s = self._sampling.total_s() - self._sampled_before_s
            engine_wait_s = max(0.0, self.elapsed_s() - sampled_s)
        return {"rollout_wait_s": rollout_wait_s, "engine_wait_s": engine_wait_s}
