"""`retrain campaign FILE.toml | DIR [--flag value]...`: many runs from one file."""

import typer


def campaign(ctx: typer.Context) -> None:
    """Do all runs of a campaign; the word `campaign` may be left out before its file."""
    from retrain_campaign.command import main

    raise typer.Exit(main(ctx.args))
