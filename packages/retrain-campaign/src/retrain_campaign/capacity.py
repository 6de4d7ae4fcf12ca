"""How many runs at once, and what of the machine each of them gets."""

import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from retrain_backends.config import BackendConfig, label_of, with_condition
from retrain_backends.errors import ConfigError
from retrain_campaign.plan import Campaign

_NO_GPU = ("fake", "tinker")  # backends that use none of this machine's
_ASKING_TIMEOUT_S = 20


@dataclass(frozen=True)
class Machine:
    """What there is to share: names of GPUs as CUDA_VISIBLE_DEVICES has them, and CPU cores."""

    gpus: tuple[str, ...]
    cores: int
    threads: int | None = None  # what the user has set OMP_NUM_THREADS to


@dataclass(frozen=True)
class Capacity:
    """`workers` runs at once, each with `gpus_each` of `gpus` and so many CPU `threads`.

    `gpus` is empty when runs are to see the machine as it is.
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
    """Those of CUDA_VISIBLE_DEVICES, or without it all that the driver knows; none without one."""
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = [name.strip() for name in visible.split(",")]
        return tuple(name for name in names if name and name != "-1")
    try:
        listed = subprocess.run(
            ["nvidia-smi", "-L"],
            capture_output=True,
            text=True,
            timeout=_ASKING_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):  # a border: no driver, or one that hangs
        return ()
    count = sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
    return tuple(map(str, range(count)))


def capacity_of(campaign: Campaign, machine: Machine, runs: int) -> Capacity:
    """How a campaign's runs share a machine.

    On the CPU a number of threads is part of what makes a run's numbers, so it must not depend on
    how many runs go at once: it is 1, unless OMP_NUM_THREADS or `backend.options.threads` says
    otherwise. Beside a GPU the cores are divided.

    Args:
      campaign: whose runs.
      machine: that they share.
      runs: how many there are.

    Raises:
      ConfigError: the runs of a parallel campaign name different GPUs, more than the machine has,
        or others than those from `gpu:0`.
    """
    settings = campaign.settings
    shares_gpus = settings.executor == "process" and bool(machine.gpus)
    if not settings.parallel:
        all_on_gpu = shares_gpus and all(map(gpus_named, _backends(campaign).values()))
        threads = machine.cores if all_on_gpu else 1
        return Capacity(workers=1, threads=machine.threads or threads)
    each = _gpus_to_share(campaign, machine) if shares_gpus else 0
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
    """Gives each run the GPUs that the fewest others have."""

    def __init__(self, gpus: Iterable[str], each: int) -> None:
        self._users = dict.fromkeys(gpus, 0)
        self._each = each

    def take(self, mine: Iterable[str] = ()) -> list[str]:
        """GPUs for a run, or `mine` again for one that has some already."""
        chosen = list(mine) or sorted(self._users, key=self._users.__getitem__)[: self._each]
        for gpu in chosen:
            # A worker that was adopted may have GPUs that are not this campaign's to give.
            if gpu in self._users:
                self._users[gpu] += 1
        return chosen

    def give_back(self, gpus: Iterable[str]) -> None:
        """The run that had them has ended."""
        for gpu in gpus:
            if gpu in self._users:
                self._users[gpu] -= 1


def gpus_of_runs(campaign: Campaign) -> set[int]:
    """The numbers of the GPUs that each run of a campaign names.

    Raises:
      ConfigError: the conditions do not name the same.
    """
    named = {label: gpus_named(backend) for label, backend in _backends(campaign).items()}
    first, *others = named.items()
    for label, gpus in others:
        if gpus != first[1]:
            raise ConfigError(
                f"backend.devices: `{first[0]}` uses {_gpu_names(first[1])}, `{label}` "
                f"{_gpu_names(gpus)}; the runs of a campaign get the same GPUs each: let all "
                "conditions name the same, or start a campaign for each kind"
            )
    return first[1]


def _gpus_to_share(campaign: Campaign, machine: Machine) -> int:
    """How many of the machine's GPUs each run of a parallel campaign gets."""
    indices = gpus_of_runs(campaign)
    if indices != set(range(len(indices))):
        raise ConfigError(
            f"backend.devices: {_gpu_names(indices)}; runs of a parallel campaign have GPUs of "
            "their own, which each counts from gpu:0"
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
    """The numbers of the GPUs that `[backend] devices` names; none for a backend that uses none."""
    if backend.backend in _NO_GPU:
        return set()
    names = (name.strip() for name in backend.devices.split(","))
    return {int(name.partition(":")[2]) for name in names if name.startswith("gpu:")}


def _all_cores() -> int:
    return os.cpu_count() or 1
