"""The command that starts the inference server of a configuration."""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from retrain_backends.config import InferenceConfig, ModelConfig
from retrain_backends.errors import ConfigError
from retrain_backends.tokenizer import loadable_name

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
    model: ModelConfig, inference: InferenceConfig, *, on_cpu: bool
) -> list[ServerCommand]:
    """The commands that start the servers, one for each address; one on port 8000 without any.

    Args:
      model: `[model]`.
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
    return [build(model, inference, port, on_cpu) for port in ports]


def _vllm(model: ModelConfig, inference: InferenceConfig, port: int, on_cpu: bool) -> ServerCommand:
    rank = next((rank for rank in _VLLM_RANKS if rank >= model.lora_rank), None)
    if rank is None:
        raise ConfigError(
            f"model.lora_rank: `{model.lora_rank}` is above what vLLM takes, {_VLLM_RANKS[-1]}"
        )
    options = {
        "--port": str(port),
        "--max-lora-rank": str(rank),
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
        ("vllm", "serve", loadable_name(model.model), *words, *switches),
        {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"},
    )


def _sglang(
    model: ModelConfig, inference: InferenceConfig, port: int, on_cpu: bool
) -> ServerCommand:
    options = {
        "--model-path": loadable_name(model.model),
        "--port": str(port),
        "--max-lora-rank": str(model.lora_rank),
        "--lora-target-modules": "all",
        **({"--device": "cpu", "--dtype": "float32"} if on_cpu else {}),
    }
    switches = ["--enable-lora", *([] if inference.prefix_caching else ["--disable-radix-cache"])]
    words = [word for option in options.items() for word in option]
    return ServerCommand(("python", "-m", "sglang.launch_server", *words, *switches))


_COMMANDS: Mapping[str, Callable[[ModelConfig, InferenceConfig, int, bool], ServerCommand]] = {
    "vllm": _vllm,
    "sglang": _sglang,
}
