"""`retrain flags [WORD]`: list the keys of the configuration file with their flags."""

import click

from retrain_cli.command import Command

_SECTIONS = {
    "Arguments": (("WORD", "show only the tables and keys that mention this word"),),
    "Examples": (
        ("retrain flags", "all of them"),
        ("retrain flags wandb", "those about Weights & Biases"),
    ),
}


@click.command(cls=Command, sections=_SECTIONS)
@click.argument("word", default="")
def flags(word: str) -> None:
    """List every key of the file with its flag and default."""
    from retrain_backends.config import sections
    from retrain_cli.flag_rows import print_flags

    print_flags(sections(), word)
