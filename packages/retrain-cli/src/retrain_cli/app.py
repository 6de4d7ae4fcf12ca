"""The entry point: which command runs, and how errors end."""

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from retrain_backends.errors import RetrainError
from retrain_cli import __version__
from retrain_cli.commands.campaign import campaign
from retrain_cli.commands.explain import explain
from retrain_cli.commands.flags import flags
from retrain_cli.commands.init import init
from retrain_cli.commands.resume_check import resume_check
from retrain_cli.commands.rewards import rewards
from retrain_cli.commands.run import run
from retrain_cli.commands.schema import schema
from retrain_cli.commands.squeeze import squeeze
from retrain_cli.commands.status import status
from retrain_cli.dispatch import HasItsOwnHelp, RunByDefault, TakesEverything
from retrain_squeeze.errors import SqueezeError

app = typer.Typer(
    cls=RunByDefault,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(cls=TakesEverything, context_settings=TakesEverything.settings)(run)
app.command(cls=TakesEverything, context_settings=TakesEverything.settings)(campaign)
app.command()(init)
app.command()(status)
app.command(
    context_settings=TakesEverything.settings,
    options_metavar="[PATH.toml] [--from DIR] [--flag value]...",
)(explain)
app.command()(resume_check)
app.add_typer(rewards, name="rewards")
app.command(context_settings=HasItsOwnHelp.settings)(squeeze)
app.command()(flags)
app.command()(schema)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"retrain {__version__}")
        raise typer.Exit


@app.callback()
def _retrain(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_print_version, help="Show the version."),
    ] = False,
) -> None:
    """Train a language model by reinforcement learning, from one TOML file."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code: 0 done, 1 failed, 2 usage, 130 interrupted.

    `--debug`, wherever it stands, adds the traceback to an error.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    try:
        app([argument for argument in given if argument != "--debug"], prog_name="retrain")
    except (RetrainError, SqueezeError) as error:
        if debug:
            traceback.print_exc()
        _print_problems(str(error))
        sys.exit(error.exit_code)


def _print_problems(text: str) -> None:
    """One `error:` line for each problem, red where the terminal shows colours."""
    colours = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    mark = typer.style("error:", fg="red", bold=True) if colours else "error:"
    for line in text.splitlines():
        typer.echo(f"{mark} {line}", err=True)
