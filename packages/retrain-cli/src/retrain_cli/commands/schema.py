"""`retrain schema`: print the JSON Schema of the configuration file."""

import json

import click

from retrain_cli.command import Command

_SECTIONS = {
    "Examples": (
        ("retrain schema > retrain.schema.json", "write the schema to a file for your editor"),
    )
}


@click.command(cls=Command, sections=_SECTIONS)
def schema() -> None:
    """Print the JSON Schema of the configuration file, for editors."""
    from retrain_backends.config import json_schema

    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
