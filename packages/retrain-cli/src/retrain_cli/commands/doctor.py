"""`retrain doctor [PATH.toml]`: try what a run needs."""

from typing import TYPE_CHECKING

import click

from retrain_cli.command import ConfigCommand

if TYPE_CHECKING:
    from retrain_backends.config import Arguments

_SECTIONS = {
    "Arguments": (("PATH.toml", "the file of a run; without it, retrain.toml here"),),
    "Examples": (
        ("retrain doctor my.toml", "try the machine, the servers, the model and its log-probs"),
        ("retrain doctor my.toml --engine vllm --url http://localhost:8000", "try a server"),
    ),
    "Exit codes": (
        ("0", "a run would work"),
        ("1", "something that it needs does not work; the last lines say what"),
        ("2", "a mistake in the flags or the file"),
    ),
}


@click.command(cls=ConfigCommand, sections=_SECTIONS)
@click.argument("path", metavar="[PATH.toml]", type=click.Path(), required=False)
def doctor(arguments: "Arguments") -> int:
    """Try everything that a run needs, and measure how fast it samples.

    The model is loaded, sampled from and trained for two steps, in memory only. Nothing is written.
    """
    from rich.console import Console

    from retrain_backends.config import load_arguments

    config = load_arguments(arguments)
    console = Console(highlight=False, markup=False)
    working = True
    with Console(stderr=True).status("trying"):
        from retrain_backends.train.checks.doctor import examine

        for finding in examine(config):
            working = working and finding.works
            mark, style = ("works", "green") if finding.works else ("FAILS", "bold red")
            console.print(f"{mark}  ", style=style, end="")
            console.print(f"{finding.label:<10} {finding.text}", soft_wrap=True)
    return 0 if working else 1
