"""`retrain backends`: what works with what."""

from collections.abc import Mapping, Sequence

import click

from retrain_cli.command import Command

_SECTIONS = {
    "Examples": (
        ("retrain backends", "two tables: the backends, and the engines of the local one"),
        ("retrain doctor my.toml", "try one of them on this machine"),
    ),
}


@click.command(cls=Command, sections=_SECTIONS)
def backends() -> None:
    """Show what the backends and inference engines can do, and which are installed."""
    from retrain_backends.train.checks.overview import overview

    found = overview()
    _print_table("Backends: backend.backend", found.backends)
    _print_table("Engines of the local backend: inference.engine", found.engines)


def _print_table(title: str, parts: "Sequence[Mapping[str, str]]") -> None:
    """A column for each part, so that long names of properties do not make it wide."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    name, *properties = parts[0]
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    for part in parts:
        table.add_column(part[name], overflow="fold", min_width=len(part[name]))
    for label in properties:
        table.add_row(label, *(part[label] for part in parts))
    Console(highlight=False, markup=False).print(table)
