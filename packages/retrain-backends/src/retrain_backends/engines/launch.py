"""The command that starts the inference server of a configuration."""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from retrain_backends.config import InferenceConfig
from retrain_backends.engines.precision import sampling_arguments
from retrain_backends.engines.vllm import batch_invariance, engine_arguments
from retrain_backends.errors import ConfigError

_PORT = 8000


@dataclass(frozen=True)
class ServerCommand:
    """A command line, and the environment variables that it needs."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """As it is typed into a shell."""
        settings = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        return " ".join([*settings, shlex.join(self.arguments)])


def trains_on_cpu(devices: str) -> bool:
    """Whether `backend.devices` names the CPU for training, and so asks for servers on a CPU."""
    return devices.rsplit(",", maxsplit=1)[-1].strip() == "cpu"


def server_commands(
    model: str, rank: int, inference: InferenceConfig, *, on_cpu: bool
) -> list[ServerCommand]:
    """The commands that start the servers, one for each address; one on port 8000 without any.

    Args:
      model: what the server loads: a path or a hub id.
      rank: of the adapters.
      inference: `[inference]`.
      on_cpu: whether the trainer is on the CPU, and so computes in float32.

    Raises:
      ConfigError: for this engine no command is known, or its server does not have a setting.
    """
    build = _COMMANDS.get(inference.engine)
    if build is None:
        raise ConfigError(
            f"inference.engine: `{inference.engine}` has no server that this command can start;"
            f" use {' or '.join(f'`{name}`' for name in _COMMANDS)}"
        )
    if inference.determinism == "tokens" and inference.engine != "vllm":
        raise ConfigError(
            f"inference.determinism: `tokens` cannot be had from `{inference.engine}`; use `vllm`,"
            " or set it to off"
        )
    ports = [_port(url) for url in inference.url] or [_PORT]
    return [build(model, rank, inference, port, on_cpu) for port in ports]


def _port(url: str) -> int:
    try:
        return urlsplit(url).port or _PORT
    except ValueError as error:
        raise ConfigError(
            f"inference.url: `{url}` has no port from 0 to 65535; use an address such as"
            " http://localhost:8000, or a list of them"
        ) from error


def _vllm(
    model: str, rank: int, inference: InferenceConfig, port: int, on_cpu: bool
) -> ServerCommand:
    arguments = {"port": port, **engine_arguments(rank, inference, on_cpu=on_cpu)}
    words = [word for name, value in arguments.items() for word in _flag(name, value)]
    variables = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1", **batch_invariance(inference, on_cpu)}
    return ServerCommand(("vllm", "serve", model, *words), variables)


def _flag(name: str, value: str | int | bool) -> list[str]:
    """An argument as the command lines of vLLM and SGLang take it."""
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    return [f"--{flag}", str(value)]


def _sglang(
    model: str, rank: int, inference: InferenceConfig, port: int, on_cpu: bool
) -> ServerCommand:
    options = {
        "--model-path": model,
        "--port": str(port),
        "--max-lora-rank": str(rank),
        "--lora-target-modules": "all",
        **({"--device": "cpu"} if on_cpu else {}),
    }
    switches = ["--enable-lora", *([] if inference.prefix_caching else ["--disable-radix-cache"])]
    words = [word for option in options.items() for word in option]
    sampling = sampling_arguments("sglang", inference, on_cpu=on_cpu)
    words += [word for name, value in sampling.items() for word in _flag(name, value)]
    return ServerCommand(("python", "-m", "sglang.launch_server", *words, *switches))


_COMMANDS: Mapping[str, Callable[[str, int, InferenceConfig, int, bool], ServerCommand]] = {
    "vllm": _vllm,
    "sglang": _sglang,
}

STARTED = tuple(_COMMANDS)  # the engines whose command is known
