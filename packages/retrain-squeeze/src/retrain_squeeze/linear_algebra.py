"""The linear algebra of an adapter: numpy on all cores, or PyTorch on another device."""

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
OnModule = Callable[[int, int], object]
"""Called as `on_module(done, total)` after each module."""

_TORCH = (
    "retrain_squeeze.torch_linear_algebra"  # by name: torch is imported only if a device needs it
)
_MOST_WORKERS = 16  # bounds the memory: each worker holds a few blocks of a module


class LinearAlgebra(NamedTuple):
    """The two steps whose cost grows with the model; both take stored lora_A and lora_B.

    squares: squared singular values, as `spectrum.squared_singular_values`.
    triangles: `R_a` and `R_b`, as `spectrum.triangles`.
    threads: number of modules that may be processed at once.
    """

    squares: Callable[[Stored, Stored], Floats]
    triangles: Callable[[Stored, Stored], tuple[Floats, Floats]]
    threads: int


def linear_algebra_for(device: str) -> LinearAlgebra:
    """The linear algebra for a device: numpy for `cpu`, PyTorch for all others.

    Raises:
      MissingExtraError: PyTorch is not installed.
      SqueezeConfigError: PyTorch has no such device, or this machine does not.
    """
    if device == "cpu":
        return LinearAlgebra(squared_singular_values, triangles, _blas_threads())
    try:
        module = import_module(_TORCH)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingExtraError(
            f"device is `{device}`, which needs PyTorch; install `retrain-squeeze[torch]`, "
            "or use `cpu`"
        ) from error
    return module.torch_linear_algebra(device)


def _blas_threads() -> int:
    """Threads of a numpy matrix product: all cores, or fewer if the environment limits them."""
    counts = (found["num_threads"] for found in threadpool_info() if found["user_api"] == "blas")
    return min(max(counts, default=os.cpu_count() or 1), _MOST_WORKERS)


def for_each(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    threads: int,
    on_module: OnModule | None,
) -> list[Result]:
    """The results of `work` for all items, in order.

    Modules are small, so one core for each module is several times faster than all cores for one.
    BLAS and LAPACK are limited to one thread meanwhile, since each worker would start its own.
    """
    results: list[Result] = []
    pool = ThreadPoolExecutor(threads, thread_name_prefix="squeeze")
    with threadpool_limits(1, user_api="blas"):
        try:
            for result in pool.map(work, items):
                results.append(result)
                if on_module:
                    on_module(len(results), len(items))
        finally:  # after a failure, pending items are not started
            pool.shutdown(cancel_futures=True)
    return results
