"""What does the linear algebra: numpy on all cores, or PyTorch on a device of its own."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import NamedTuple, TypeVar

from threadpoolctl import threadpool_info, threadpool_limits

from retrain_squeeze.errors import MissingExtraError
from retrain_squeeze.spectrum import (
    Floats,
    Stored,
    squared_singular_values,
    triangles,
)

Item = TypeVar("Item")
Result = TypeVar("Result")
Progress = Callable[[int, int], object]

_TORCH = "retrain_squeeze.on_torch"  # by name: torch is loaded only where it is asked for
_MOST_WORKERS = 16  # each holds some blocks of a module: this bounds the memory of all


class Engine(NamedTuple):
    """The two steps whose cost grows with the model; both take lora_A and lora_B as stored.

    squares: the squares of the singular values, as `spectrum.squared_singular_values`.
    triangles: `R_a` and `R_b`, as `spectrum.triangles`.
    threads: how many modules may be worked on at once.
    """

    squares: Callable[[Stored, Stored], Floats]
    triangles: Callable[[Stored, Stored], tuple[Floats, Floats]]
    threads: int


def engine_for(device: str) -> Engine:
    """The engine of a device: numpy for `cpu`, PyTorch for all others.

    Raises:
      MissingExtraError: PyTorch is not installed.
      SqueezeConfigError: PyTorch knows no such device, or this machine has none.
    """
    if device == "cpu":
        return Engine(squared_singular_values, triangles, _blas_threads())
    try:
        module = import_module(_TORCH)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingExtraError(
            f"device is `{device}`, which needs PyTorch; install `retrain-squeeze[torch]`, "
            "or use `cpu`"
        ) from error
    return module.torch_engine(device)


def _blas_threads() -> int:
    """Threads that a matrix product of numpy would use: the cores, or what the user allowed."""
    counts = (found["num_threads"] for found in threadpool_info() if found["user_api"] == "blas")
    return min(max(counts, default=os.cpu_count() or 1), _MOST_WORKERS)


def for_each(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    threads: int,
    on_module: Progress | None,
) -> list[Result]:
    """What `work` makes of each item, in order; `on_module(done, total)` is called after each.

    Modules are small: one core for each is several times quicker than all cores for one. So LAPACK
    gets a single thread for the time, as otherwise `threads` times `threads` would compete.
    """
    results: list[Result] = []
    pool = ThreadPoolExecutor(threads, thread_name_prefix="squeeze")
    with threadpool_limits(1, user_api="blas"):
        try:
            for result in pool.map(work, items):
                results.append(result)
                if on_module:
                    on_module(len(results), len(items))
        finally:  # whatever stopped it, what has not begun never begins
            pool.shutdown(cancel_futures=True)
    return results
