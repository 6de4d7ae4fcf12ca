"""`retrain flags`: every key of the configuration file, and its flag."""

from typing import Annotated

import typer


def flags(
    word: Annotated[
        str, typer.Argument(help="Show only the tables and keys that mention this word.")
    ] = "",
) -> None:
    """List every key of the file with its flag and default."""
    from retrain_backends.config import sections
    from retrain_cli.help import print_flags

    print_flags(sections(), word)
