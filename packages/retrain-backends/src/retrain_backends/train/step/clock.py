"""Times of the parts of a step."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter


class StepClock:
    """Measures one step, which starts when the clock is made.

    with clock("sample"):
        ...
    """

    def __init__(self) -> None:
        self._started = perf_counter()
        self._parts_s: dict[str, float] = {}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Measure the block as a part of the step."""
        started = perf_counter()
        yield
        self._parts_s[part] = perf_counter() - started

    @property
    def parts_s(self) -> Mapping[str, float]:
        """Seconds of each finished part, in the order of completion."""
        return self._parts_s

    def elapsed_s(self) -> float:
        """Seconds since the step began."""
        return perf_counter() - self._started
