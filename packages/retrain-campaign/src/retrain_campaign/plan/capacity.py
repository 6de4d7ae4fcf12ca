"""How many runs are executed at once, and the GPUs and CPU threads of each."""

import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from retrain_backends.config import BackendConfig, label_of, with_condition
from retrain_backends.errors import ConfigError
from retrain_campaign.plan.campaign import Campaign

_NO_GPU = ("fake", "tinker")  # backends that use no GPU of this machine
_NVIDIA_SMI_TIMEOUT_S = 20


@dataclass(frozen=True)
class Machine:
    """The resources to share: GPUs, named as in CUDA_VISIBLE_DEVICES, and CPU cores."""

    gpus: tuple[str, ...]
    cores: int
    threads: int | None = None  # the value of OMP_NUM_THREADS, if it is set


@dataclass(frozen=True)
class Capacity:
    """The resources of a campaign.

    Args:
      workers: runs at once.
      threads: CPU threads of each run.
      gpus: to assign to runs; empty if each run sees all GPUs of the machine.
      gpus_each: how many of `gpus` each run gets.
    """

    workers: int
    threads: int
    gpus: tuple[str, ...] = ()
    gpus_each: int = 0


def this_machine(environment: Mapping[str, str]) -> Machine:
    """The GPUs and cores that this process may use."""
    threads = environment.get("OMP_NUM_THREADS", "")
    return Machine(
        gpus=visible_gpus(environment),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else _all_cores(),
        threads=int(threads) if threads.isdecimal() and int(threads) else None,
    )


def visible_gpus(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The GPUs of CUDA_VISIBLE_DEVICES or, if it is not set, all that the driver lists."""
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = [name.strip() for name in visible.split(",")]
        return tuple(name for name in names if name and name != "-1")
    try:
        listed = subprocess.run(
            ["nvidia-smi", "-L"],
            capture_output=True,
            text=True,
            timeout=_NVIDIA_SMI_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):  # a border: no driver, or it hangs
        return ()
    count = sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
    return tuple(map(str, range(count)))


def capacity_of(campaign: Campaign, machine: Machine, runs: int) -> Capacity:
    """How a campaign's runs share a machine.

    On the CPU the number of threads affects the last digits of a run's numbers, so it must not
    depend on how many runs are executed at once: it is 1, unless OMP_NUM_THREADS or
    `backend.options.threads` is set. For runs on GPUs the cores are divided.

    Args:
      campaign: whose runs they are.
      machine: that they share.
      runs: their number.

    Raises:
      ConfigError: the conditions name different GPUs; or the runs of a parallel campaign name more
        than the machine has, or do not count them from `gpu:0`.
    """
    settings = campaign.settings
    named = gpus_of_runs(campaign)
    shares_gpus = settings.executor == "process" and bool(machine.gpus)
    if not settings.parallel:
        threads = machine.cores if shares_gpus and named else 1
        return Capacity(workers=1, threads=machine.threads or threads)
    each = _gpus_to_share(named, machine) if shares_gpus else 0
    if settings.max_workers:
        workers = settings.max_workers
    elif campaign.base.backend.backend == "tinker" or settings.executor != "process":
        workers = runs
    else:
        workers = len(machine.gpus) // each if each else machine.cores
    workers = max(1, min(workers, runs))
    threads = max(1, machine.cores // workers) if each else 1
    return Capacity(
        workers=workers,
        threads=machine.threads or threads,
        gpus=machine.gpus if each else (),
        gpus_each=each,
    )


class GpuPool:
    """Assigns to each run the GPUs with the fewest users."""

    def __init__(self, gpus: Iterable[str], each: int) -> None:
        self._users = dict.fromkeys(gpus, 0)
        self._each = each

    def take(self, held: Iterable[str] = ()) -> list[str]:
        """The GPUs for a run; `held` are those of a run that has some already."""
        chosen = list(held) or sorted(self._users, key=self._users.__getitem__)[: self._each]
        for gpu in chosen:
            # An adopted worker may hold GPUs that are not in the pool.
            if gpu in self._users:
                self._users[gpu] += 1
        return chosen

    def give_back(self, gpus: Iterable[str]) -> None:
        """Return the GPUs of a run that has ended."""
        for gpu in gpus:
            if gpu in self._users:
                self._users[gpu] -= 1


def gpus_of_runs(campaign: Campaign) -> set[int]:
    """The indices of the GPUs that each run of a campaign names.

    Raises:
      ConfigError: the conditions name different GPUs.
    """
    named = {label: gpus_named(backend) for label, backend in _backends(campaign).items()}
    first, *others = named.items()
    for label, gpus in others:
        if gpus != first[1]:
            raise ConfigError(
                f"backend.devices: `{first[0]}` uses {_gpu_names(first[1])}, `{label}` "
                f"{_gpu_names(gpus)}; all runs of a campaign use the same devices, since others "
                "round differently: set the same in all conditions, or start a campaign for each"
            )
    return first[1]


def _gpus_to_share(indices: set[int], machine: Machine) -> int:
    """How many of the machine's GPUs each run of a parallel campaign gets."""
    if indices != set(range(len(indices))):
        raise ConfigError(
            f"backend.devices: {_gpu_names(indices)}; each run of a parallel campaign gets its own "
            "GPUs, counted from gpu:0"
        )
    if len(indices) > len(machine.gpus):
        raise ConfigError(
            f"backend.devices: {_gpu_names(indices)}, but this machine has "
            f"{len(machine.gpus)} GPU{'s' * (len(machine.gpus) != 1)}; name no more than that"
        )
    return len(indices)


def _backends(campaign: Campaign) -> dict[str, BackendConfig]:
    """`[backend]` of each condition, by its label."""
    return {
        label_of(condition): with_condition(campaign.base, condition).backend
        for condition in campaign.conditions
    }


def _gpu_names(indices: Iterable[int]) -> str:
    return ", ".join(f"`gpu:{index}`" for index in sorted(indices)) or "no GPU"


def gpus_named(backend: BackendConfig) -> set[int]:
    """The indices of the GPUs in `backend.devices`; none for a backend that uses no GPU."""
    if backend.backend in _NO_GPU:
        return set()
    names = (name.strip() for name in backend.devices.split(","))
    return {int(name.partition(":")[2]) for name in names if name.startswith("gpu:")}


def _all_cores() -> int:
    return os.cpu_count() or 1
