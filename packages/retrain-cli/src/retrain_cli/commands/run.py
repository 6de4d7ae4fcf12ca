"""`retrain [run] [PATH.toml] [--flag value]...`: train, or analyse the adapter of `[squeeze]`."""

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from retrain_cli.command import ConfigCommand

if TYPE_CHECKING:
    from retrain_backends.config import Arguments
    from retrain_squeeze import SqueezeSettings


class _Run(ConfigCommand):
    def get_help(self, ctx: click.Context) -> str:
        """The page of `retrain`, since the word `run` may be omitted."""
        assert ctx.parent is not None, "it is a command of `retrain`"
        return ctx.parent.get_help()


@click.command(cls=_Run)
@click.argument("path", metavar="[PATH.toml]", type=click.Path(), required=False)
@click.option("--json", "as_json", is_flag=True, help="Print an analysis as JSON.")
def run(arguments: "Arguments", as_json: bool) -> int | None:
    """Train; the word `run` may be omitted. A file with [campaign] starts a campaign."""
    from retrain_backends.config import Origin, load_arguments
    from retrain_backends.errors import ConfigError, InterruptedRunError
    from retrain_campaign.arguments import asks_for_campaign

    many = asks_for_campaign(arguments)
    if many and not as_json:
        from retrain_campaign.command import main

        return main(arguments)
    config = load_arguments(arguments)
    squeeze = None
    if config.squeeze is not None and not many:
        from retrain_campaign.squeeze import settings_after_training
        from retrain_cli.squeezing import settings_alone

        if config.squeeze.adapter_path:
            return _squeeze(settings_alone(config, arguments), as_json=as_json)
        squeeze = settings_after_training(
            config, Origin.of(arguments), resumed=bool(config.resume.from_)
        )
    if as_json:
        raise ConfigError("--json: only an analysis is reported as JSON ([squeeze] adapter_path)")
    try:
        # Imported here, so that mistakes in the file are reported first.
        from retrain_backends.train import train
    except KeyboardInterrupt:
        raise InterruptedRunError("interrupted before the first step") from None
    summary = train(config)
    if squeeze is not None and summary.adapter is not None:
        _squeeze(replace(squeeze, adapter_path=summary.adapter))
    return None


def _squeeze(settings: "SqueezeSettings", *, as_json: bool = False) -> None:
    from retrain_squeeze.run import run_squeeze

    run_squeeze(settings, as_json=as_json)
