"""The devices of a run, from `[backend] devices`."""

import logging

import torch

from retrain_backends.errors import ConfigError
from retrain_backends.memory import machine_memory
from retrain_backends.types import Facts

log = logging.getLogger(__name__)


def parse_devices(text: str) -> tuple[torch.device, torch.device]:
    """The device to sample on and the device to train on.

    `"gpu:0"` is both; `"gpu:0,gpu:1"` is split mode: the first samples and the last trains. Without
    a GPU both are the CPU, with a warning.
    """
    names = [name.strip() for name in text.split(",")]
    devices = [_device(name, text) for name in names]
    if any(device.type == "cuda" for device in devices) and not torch.cuda.is_available():
        log.warning("no GPU found: running on the CPU (devices = `%s`)", text)
        devices = [torch.device("cpu")] * len(devices)
    return devices[0], devices[-1]


def is_split(text: str) -> bool:
    """Whether sampling and training each have a copy of the model."""
    return "," in text


def _device(name: str, text: str) -> torch.device:
    if name == "cpu":
        return torch.device("cpu")
    kind, _, index = name.partition(":")
    if kind != "gpu" or not (index or "0").isdigit():
        raise ConfigError(
            f"backend.devices: `{text}` is not a device list;"
            " use `cpu`, `gpu:0`, or a comma list such as `gpu:0,gpu:1`"
        )
    number = int(index or 0)
    if torch.cuda.is_available() and number >= torch.cuda.device_count():
        raise ConfigError(
            f"backend.devices: `{name}` does not exist: this machine has"
            f" {torch.cuda.device_count()} GPU(s), numbered from gpu:0"
        )
    return torch.device("cuda", number)


def is_gpu(device: torch.device) -> bool:
    """Whether the device is a GPU."""
    return device.type == "cuda"


def memory_of(device: torch.device) -> int | None:
    """Bytes of memory; None if unknown."""
    if is_gpu(device):
        return torch.cuda.get_device_properties(device).total_memory
    return machine_memory()


def gpu_name(device: torch.device) -> str:
    """A GPU's name and memory."""
    properties = torch.cuda.get_device_properties(device)
    return f"{properties.name}, {properties.total_memory / 2**30:.1f} GiB"


def facts_about(device: torch.device) -> Facts:
    """The facts of PyTorch on a device."""
    if is_gpu(device):
        return Facts(
            "pytorch",
            (gpu_name(device),),
            "seeded",
            "same weights, prompts and random numbers, but GPU kernels may sum in another order:"
            " figures agree up to rounding until a different token is drawn",
        )
    return Facts(
        "pytorch",
        (),
        "bitwise",
        "on the CPU, with one random number per token: the same machine, versions and number of"
        f" threads (now {torch.get_num_threads()}) give the same bytes",
    )


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """The precision of weights and activations for `[inference] dtype`.

    `auto` is bfloat16 on a GPU and float32 on the CPU, and so are fp8 and fp4, in which only the
    sampler has weights.
    """
    return torch.bfloat16 if name == "bf16" or is_gpu(device) else torch.float32
