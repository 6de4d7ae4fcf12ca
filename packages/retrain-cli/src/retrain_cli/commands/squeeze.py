"""`retrain squeeze ADAPTER [--flag value]...`: the rank that an adapter needs."""

from pathlib import Path

import typer


def squeeze(ctx: typer.Context) -> None:
    """Find the rank that an adapter needs, and compress it."""
    from retrain_backends.config import load_env_file
    from retrain_squeeze.command import read_command_line

    load_env_file(Path(".env"))
    request = read_command_line(ctx.args, "retrain squeeze")
    from retrain_squeeze.run import run_squeeze

    run_squeeze(request.job, as_json=request.as_json)
