"""The entry point: the commands, and the reporting of errors."""

import os
import sys
import traceback
from collections.abc import Iterable, Sequence

import click

from retrain_backends.errors import RetrainError, error_of_file, one_line
from retrain_cli import __version__
from retrain_cli.command import HELP_NAMES
from retrain_cli.commands.backends import backends
from retrain_cli.commands.campaign import campaign
from retrain_cli.commands.completion import completion
from retrain_cli.commands.doctor import doctor
from retrain_cli.commands.explain import explain
from retrain_cli.commands.export import export
from retrain_cli.commands.flags import flags
from retrain_cli.commands.init import init
from retrain_cli.commands.planning import planning
from retrain_cli.commands.resume_check import resume_check
from retrain_cli.commands.rewards import rewards
from retrain_cli.commands.run import run
from retrain_cli.commands.schema import schema
from retrain_cli.commands.serve import serve
from retrain_cli.commands.squeeze import squeeze
from retrain_cli.commands.statistics import statistics
from retrain_cli.commands.status import status
from retrain_cli.dispatch import RunByDefault
from retrain_squeeze.errors import SqueezeError


@click.group(cls=RunByDefault, context_settings={"help_option_names": list(HELP_NAMES)})
@click.version_option(__version__, message="retrain %(version)s", help="Show the version.")
def retrain() -> None:
    """Train a language model by reinforcement learning, from one TOML file."""


for command in (run, campaign, explain, doctor, serve, status, squeeze, export, resume_check):
    retrain.add_command(command)
for command in (backends, rewards, planning, statistics, init, flags, schema, completion):
    retrain.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code.

    0 done, 1 failed, 2 usage, 130 interrupted, 143 ended by SIGTERM. `--debug`, at any position,
    adds the traceback to an error.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    words = [argument for argument in given if argument != "--debug"]
    try:
        code = retrain.main(words, prog_name="retrain", standalone_mode=False)
    except (RetrainError, SqueezeError, OSError) as error:
        if debug:
            traceback.print_exc()
        shown = error_of_file(error) if isinstance(error, OSError) else error
        _print_problems(shown.problems)
        code = shown.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = error.exit_code
    except click.ClickException as error:
        _print_problems([_usage_problem(error)])
        code = error.exit_code
    sys.exit(code)


def _usage_problem(error: click.ClickException) -> str:
    """An error of click as one line, in the style of the other errors."""
    message = error.format_message().rstrip(".?").replace(". Did you", "; did you")
    context = error.ctx if isinstance(error, click.UsageError) else None
    where = f"; `{context.command_path} --help` lists its arguments" if context else ""
    return f"{message[:1].lower()}{message[1:]}{where}"


def _print_problems(problems: Iterable[str]) -> None:
    """One `error:` line for each problem, red where the terminal shows colours."""
    colours = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    mark = click.style("error:", fg="red", bold=True) if colours else "error:"
    for problem in problems:
        click.echo(f"{mark} {one_line(problem)}", err=True)
