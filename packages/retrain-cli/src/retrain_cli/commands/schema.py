"""`retrain schema`: JSON Schema of the configuration file."""

import json

import typer


def schema() -> None:
    """Print JSON Schema of the file, for editors."""
    from retrain_backends.config import json_schema

    typer.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
