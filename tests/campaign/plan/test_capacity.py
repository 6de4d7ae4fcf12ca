from pathlib import Path

import pytest

from retrain_backends.config import RunConfig
from retrain_backends.errors import ConfigError
from retrain_campaign.plan.campaign import campaign_of
from retrain_campaign.plan.capacity import (
    Capacity,
    GpuPool,
    Machine,
    capacity_of,
    gpus_of_runs,
    this_machine,
    visible_gpus,
)

TWO_GPUS = Machine(gpus=("0", "1"), cores=8)
NO_GPU = Machine(gpus=(), cores=8)


ONE_GPU = Machine(gpus=("0",), cores=8)


def campaign(backend="local", devices="gpu:0", **settings):
    tables = {"backend": {"backend": backend, "devices": devices}, "campaign": settings}
    return campaign_of(RunConfig.model_validate(tables), Path("c.toml"))


def capacity(machine, runs=15, **settings):
    return capacity_of(campaign(**settings), machine, runs)


def with_devices(*devices):
    """A condition for each, called `a`, `b`, and so on; None for one without devices of its own."""
    rule = {"advantage_mode": "grpo", "transform_mode": "none"}
    tables = [{} if names is None else {"backend": {"devices": names}} for names in devices]
    return [{**rule, "name": name, **own} for name, own in zip("abc", tables, strict=False)]


@pytest.mark.parametrize(
    ("settings", "machine", "expected"),
    [
        # One GPU each, the cores divided.
        ({}, TWO_GPUS, Capacity(2, 4, ("0", "1"), 1)),
        ({"max_workers": 1}, TWO_GPUS, Capacity(1, 8, ("0", "1"), 1)),
        ({"max_workers": 4}, TWO_GPUS, Capacity(4, 2, ("0", "1"), 1)),
        ({"devices": "gpu:0,gpu:1"}, TWO_GPUS, Capacity(1, 8, ("0", "1"), 2)),
        # On the CPU one thread each, whatever the number of runs.
        ({}, NO_GPU, Capacity(8, 1)),
        ({"devices": "cpu"}, TWO_GPUS, Capacity(8, 1)),
        ({"max_workers": 2}, NO_GPU, Capacity(2, 1)),
        ({"backend": "fake"}, TWO_GPUS, Capacity(8, 1)),
        ({"runs": 3}, NO_GPU, Capacity(3, 1)),
        # A service takes all runs at once.
        ({"backend": "tinker"}, TWO_GPUS, Capacity(15, 1)),
        ({"backend": "tinker", "max_workers": 3}, NO_GPU, Capacity(3, 1)),
        # Clusters assign GPUs themselves.
        ({"executor": "ray"}, TWO_GPUS, Capacity(15, 1)),
        ({"executor": "slurm", "max_workers": 4}, TWO_GPUS, Capacity(4, 1)),
    ],
)
def test_parallel(settings, machine, expected):
    assert capacity(machine, parallel=True, **settings) == expected


@pytest.mark.parametrize(("machine", "threads"), [(NO_GPU, 1), (TWO_GPUS, 8)])
def test_one_after_another_a_run_sees_the_machine_as_it_is(machine, threads):
    assert capacity(machine, max_workers=4) == Capacity(1, threads)


@pytest.mark.parametrize("parallel", [True, False])
def test_threads_that_the_user_has_set_stay(parallel):
    assert capacity(Machine((), 8, threads=3), parallel=parallel).threads == 3


def test_gpus_are_counted_from_the_first():
    with pytest.raises(ConfigError, match=r"backend.devices: `gpu:1`; .* counted from gpu:0"):
        capacity(TWO_GPUS, parallel=True, devices="gpu:1")


def test_what_conditions_say_of_devices_counts():
    both = with_devices("gpu:0,gpu:1", "gpu:1,gpu:0")
    found = capacity(TWO_GPUS, parallel=True, devices="cpu", conditions=both)
    assert found == Capacity(1, 8, ("0", "1"), 2)


@pytest.mark.parametrize(
    ("devices", "line"),
    [
        ((None, "gpu:0,gpu:1"), "`a` uses `gpu:0`, `b` `gpu:0`, `gpu:1`; all runs of a campaign"),
        (("cpu", None), "`a` uses no GPU, `b` `gpu:0`; all runs of a campaign use the same"),
    ],
)
@pytest.mark.parametrize("machine", [TWO_GPUS, NO_GPU])
@pytest.mark.parametrize("parallel", [True, False])
def test_conditions_on_different_devices_are_not_compared(machine, parallel, devices, line):
    conditions = with_devices(*devices)
    with pytest.raises(ConfigError, match=f"^backend.devices: {line}"):
        capacity(machine, parallel=parallel, conditions=conditions)
    with pytest.raises(ConfigError, match=line):
        gpus_of_runs(campaign(executor="slurm", conditions=conditions))


def test_a_run_cannot_have_more_gpus_than_there_are():
    with pytest.raises(ConfigError, match=r"devices: `gpu:0`, `gpu:1`, but this machine has 1 GPU"):
        capacity(ONE_GPU, parallel=True, devices="gpu:0,gpu:1")


@pytest.mark.parametrize(
    ("visible", "gpus"), [("", ()), ("-1", ()), ("3", ("3",)), ("0, GPU-a1", ("0", "GPU-a1"))]
)
def test_gpus_that_are_hidden_do_not_count(visible, gpus):
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": visible}) == gpus


@pytest.mark.parametrize(("text", "threads"), [("4", 4), ("", None), ("0", None), ("x", None)])
def test_this_machine(text, threads):
    found = this_machine({"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": text})
    assert (found.gpus, found.threads) == ((), threads)
    assert found.cores >= 1


def test_the_pool_gives_what_the_fewest_use():
    pool = GpuPool(("0", "1"), each=1)
    assert [pool.take(), pool.take(), pool.take()] == [["0"], ["1"], ["0"]]
    pool.give_back(["0"])
    pool.give_back(["0"])
    assert pool.take() == ["0"]
    assert pool.take(["1"]) == ["1"]
    assert pool.take() == ["0"]


def test_the_pool_gives_nothing_that_is_not_in_it():
    """As after an adopted worker that was started when other GPUs were visible."""
    pool = GpuPool(("2", "3"), each=1)
    pool.give_back(pool.take(["0"]))
    assert [pool.take(), pool.take(), pool.take()] == [["2"], ["3"], ["2"]]


def test_without_gpus_the_pool_gives_none():
    assert GpuPool((), each=0).take() == []
