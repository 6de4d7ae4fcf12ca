"""`retrain init`: write a first configuration file."""

from pathlib import Path

import click

from retrain_cli.command import Command

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


_SECTIONS = {
    "Arguments": (("PATH", "the file to write; without it, retrain.toml"),),
    "Exit codes": (("0", "written"), ("2", "the file exists already, or cannot be written")),
}


@click.command(cls=Command, sections=_SECTIONS)
@click.argument("path", type=click.Path(path_type=Path), default=Path("retrain.toml"))
def init(path: Path) -> None:
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
    click.echo(f"Wrote {path}. Start training with: {command}")
