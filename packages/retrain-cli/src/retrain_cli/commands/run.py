"""`retrain [run] [PATH.toml] [--flag value]...`: train, or do what `[squeeze]` asks for."""

import typer


def run(ctx: typer.Context) -> None:
    """Train; the word `run` may be left out. A file with [campaign] does many runs."""
    from rich.console import Console

    from retrain_backends.config import load_command_line
    from retrain_backends.errors import ConfigError, InterruptedRunError
    from retrain_campaign.arguments import asks_for_campaign

    if asks_for_campaign(ctx.args):
        from retrain_campaign.command import main

        raise typer.Exit(main(ctx.args))
    arguments = [argument for argument in ctx.args if argument != "--json"]
    as_json = len(arguments) < len(ctx.args)
    config = load_command_line(arguments)
    squeezing = None
    if config.squeeze is not None:
        from retrain_cli.squeezing import Squeezing

        squeezing = Squeezing(config, arguments)
        if squeezing.alone:
            squeezing.run(as_json=as_json)
            return
    if as_json:
        raise ConfigError("--json: only an analysis is told as JSON ([squeeze] adapter_path)")
    try:
        # Only now, so that a mistake in the file is told at once, before slow imports.
        with Console(stderr=True).status("loading PyTorch and transformers"):
            from retrain_backends.train import train
    except KeyboardInterrupt:
        raise InterruptedRunError("interrupted before the first step") from None
    summary = train(config)
    if squeezing is not None and summary.adapter is not None:
        squeezing.run(summary.adapter)
