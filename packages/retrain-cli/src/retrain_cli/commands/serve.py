"""`retrain serve [PATH.toml] [--start]`: the command of the inference server of a configuration."""

from typing import TYPE_CHECKING

import click

from retrain_cli.command import ConfigCommand

if TYPE_CHECKING:
    from retrain_backends.config import Arguments
    from retrain_backends.engines.launch import ServerCommand

_SECTIONS = {
    "Arguments": (("PATH.toml", "the file of a run; without it, retrain.toml here"),),
    "Examples": (
        ("retrain serve my.toml", "the command for each address of inference.url"),
        ("retrain serve my.toml --engine vllm --start", "start the server here"),
    ),
    "Exit codes": (
        ("0", "printed"),
        ("2", "a mistake in the flags or the file, or no command is known for the engine"),
    ),
}


@click.command(cls=ConfigCommand, sections=_SECTIONS)
@click.argument("path", metavar="[PATH.toml]", type=click.Path(), required=False)
@click.option("--start", is_flag=True, help="Also start it, in place of this command.")
def serve(arguments: "Arguments", start: bool) -> None:
    """Print the command that starts the inference server of a configuration."""
    from retrain_backends.config import load_arguments
    from retrain_backends.engines.launch import server_commands, trains_on_cpu
    from retrain_backends.tokenizer import loadable_name

    config = load_arguments(arguments)
    on_cpu = trains_on_cpu(config.backend.devices)
    model = loadable_name(config.model.model)
    rank = config.model.lora_rank
    commands = server_commands(model, rank, config.inference, on_cpu=on_cpu)
    for command in commands:
        click.echo(str(command))
    if start:
        _start(commands)


def _start(commands: "list[ServerCommand]") -> None:
    import os
    import shutil
    import sys

    from retrain_backends.errors import ConfigError

    if len(commands) > 1:
        raise ConfigError("--start: inference.url has several addresses; start each by its command")
    [command] = commands
    program = command.arguments[0]
    if shutil.which(program) is None:
        raise ConfigError(
            f"--start: there is no `{program}` here; install it, or start the server on another"
            " machine by the command above"
        )
    sys.stdout.flush()
    os.execvpe(program, command.arguments, {**os.environ, **command.environment})
