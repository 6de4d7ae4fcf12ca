"""`retrain squeeze ADAPTER | FILE.toml [--flag value]...`: analyse and compress an adapter."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from retrain_cli.command import ConfigCommand

if TYPE_CHECKING:
    from retrain_backends.config import Arguments
    from retrain_backends.config.describe import FieldDoc


def _keys() -> "Mapping[str, FieldDoc]":
    from retrain_cli.squeezing import squeeze_flags

    return squeeze_flags()


_SECTIONS = {
    "Arguments": (
        ("ADAPTER", "a PEFT directory, or a tinker:// path"),
        ("PATH.toml", "a file whose [squeeze] names the adapter"),
    ),
    "Examples": (
        ("retrain squeeze logs/quickstart/final", "which rank is sufficient?"),
        ("retrain squeeze DIR --output-path small", "write the adapter at that rank"),
        ("retrain squeeze DIR --json", "the figures for a program"),
    ),
    "Exit codes": (
        ("0", "done"),
        ("1", "the adapter could not be downloaded or written"),
        ("2", "a mistake in the flags, the file or the adapter"),
        ("130", "interrupted"),
    ),
}


@click.command(cls=ConfigCommand, sections=_SECTIONS, keys=_keys)
@click.argument("path", metavar="ADAPTER | PATH.toml", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def squeeze(arguments: "Arguments", as_json: bool) -> None:
    """Find the rank that a LoRA adapter needs, and compress it to that rank."""
    from retrain_cli.squeezing import read_squeeze

    settings = read_squeeze(arguments)
    from retrain_squeeze.run import run_squeeze

    run_squeeze(settings, as_json=as_json)
