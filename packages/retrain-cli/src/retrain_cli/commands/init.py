"""`retrain init`: write a first configuration file."""

from pathlib import Path
from typing import Annotated

import typer

STARTER = """\
# Teaches the small model that comes with retrain to do arithmetic, on any CPU.
# `retrain` runs this file, `retrain flags` lists every key.

[model]
model = "builtin:tiny-arithmetic"
lora_rank = 16

[data]
source = "arithmetic"
prompt_template = "{question}"

[algorithm]
advantage_mode = "maxrl"
transform_mode = "gtpo_sepa"

[sepa]
delay_steps = 10
steps = 40

[training]
max_steps = 60
batch_size = 8    # prompts per step
group_size = 16   # completions per prompt
max_tokens = 32
temperature = 1.0
lr = 1e-3

[eval]
every = 20         # also before the first step and after the last one
max_examples = 200 # questions that are never trained on

[logging]
log_dir = "logs/first"
"""


def init(
    path: Annotated[Path, typer.Argument(help="File to write.")] = Path("retrain.toml"),
) -> None:
    """Write a first retrain.toml to start from."""
    from retrain_backends.config import DEFAULT_FILE
    from retrain_backends.errors import ConfigError

    command = "retrain" if path == DEFAULT_FILE else f"retrain {path}"
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(STARTER)
    except FileExistsError:
        raise ConfigError(f"{path}: exists already; `{command}` runs it") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror})") from error
    typer.echo(f"Wrote {path}. Start training with: {command}")
