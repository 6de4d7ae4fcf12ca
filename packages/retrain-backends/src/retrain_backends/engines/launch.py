"""The command that starts the inference server of a configuration."""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from retrain_backends.config import InferenceConfig
from retrain_backends.errors import ConfigError

_VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # that --max-lora-rank takes
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
      ConfigError: for this engine no command is known.
    """
    build = _COMMANDS.get(inference.engine)
    if build is None:
        raise ConfigError(
            f"inference.engine: `{inference.engine}` has no server that this command can start;"
            f" use {' or '.join(f'`{name}`' for name in _COMMANDS)}"
        )
    ports = [urlsplit(url).port or _PORT for url in inference.url] or [_PORT]
    return [build(model, rank, inference, port, on_cpu) for port in ports]


def _vllm(
    model: str, rank: int, inference: InferenceConfig, port: int, on_cpu: bool
) -> ServerCommand:
    accepted = next((known for known in _VLLM_RANKS if known >= rank), None)
    if accepted is None:
        raise ConfigError(f"model.lora_rank: `{rank}` is above what vLLM takes, {_VLLM_RANKS[-1]}")
    options = {
        "--port": str(port),
        "--max-lora-rank": str(accepted),
        "--max-loras": "2",
        "--logprobs-mode": "processed_logprobs",
        **({"--dtype": "float32"} if on_cpu else {}),
    }
    switches = ["--enable-lora"]
    if on_cpu:
        # Its sampler for the CPU fails with seeds when a prompt is prefilled in chunks.
        switches += ["--enforce-eager", "--no-enable-chunked-prefill"]
    if not inference.prefix_caching:
        switches += ["--no-enable-prefix-caching"]
    words = [word for option in options.items() for word in option]
    return ServerCommand(
        ("vllm", "serve", model, *words, *switches),
        {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"},
    )


def _sglang(
    model: str, rank: int, inference: InferenceConfig, port: int, on_cpu: bool
) -> ServerCommand:
    options = {
        "--model-path": model,
        "--port": str(port),
        "--max-lora-rank": str(rank),
        "--lora-target-modules": "all",
        **({"--device": "cpu", "--dtype": "float32"} if on_cpu else {}),
    }
    switches = ["--enable-lora", *([] if inference.prefix_caching else ["--disable-radix-cache"])]
    words = [word for option in options.items() for word in option]
    return ServerCommand(("python", "-m", "sglang.launch_server", *words, *switches))


_COMMANDS: Mapping[str, Callable[[str, int, InferenceConfig, int, bool], ServerCommand]] = {
    "vllm": _vllm,
    "sglang": _sglang,
}

STARTED = tuple(_COMMANDS)  # the engines whose command is known
