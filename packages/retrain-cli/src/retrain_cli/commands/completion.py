"""`retrain completion SHELL`: print a completion script for a shell."""

import click
from click.shell_completion import get_completion_class

from retrain_cli.command import Command

_SECTIONS = {
    "Examples": (
        ('eval "$(retrain completion bash)"', "in ~/.bashrc"),
        ('eval "$(retrain completion zsh)"', "in ~/.zshrc"),
        ("retrain completion fish | source", "in ~/.config/fish/config.fish"),
    ),
}


@click.command(cls=Command, sections=_SECTIONS)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the shell script that completes commands, flags and names of modes."""
    kind = get_completion_class(shell)
    assert kind is not None, "click has a class for each of these shells"
    script = kind(ctx.find_root().command, {}, "retrain", "_RETRAIN_COMPLETE")
    click.echo(script.source())
