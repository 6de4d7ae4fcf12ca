"""`retrain [run] [PATH.toml] [--flag value]...`: train."""

import typer


def run(ctx: typer.Context) -> None:
    """Train; the word `run` may be left out. A file with [campaign] does many runs."""
    from rich.console import Console

    from retrain_backends.config import load_command_line
    from retrain_backends.errors import InterruptedRunError
    from retrain_campaign.arguments import asks_for_campaign

    if asks_for_campaign(ctx.args):
        from retrain_campaign.command import main

        raise typer.Exit(main(ctx.args))
    config = load_command_line(ctx.args)
    try:
        # Only now, so that a mistake in the file is told at once, before slow imports.
        with Console(stderr=True).status("loading PyTorch and transformers"):
            from retrain_backends.train import train
    except KeyboardInterrupt:
        raise InterruptedRunError("interrupted before the first step") from None
    train(config)
