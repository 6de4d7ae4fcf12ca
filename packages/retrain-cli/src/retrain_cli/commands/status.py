"""`retrain status [DIR]`: show the progress of runs and campaigns below a directory."""

from pathlib import Path

import click

from retrain_cli.command import Command

_SECTIONS = {
    "Arguments": (
        ("DIRECTORY", "searched with its subdirectories; without it, the working directory"),
    ),
    "Examples": (
        ("retrain status logs --watch", "a table that is updated"),
        ("retrain status logs/campaign_... --all", "every run of a campaign"),
    ),
}


@click.command(cls=Command, sections=_SECTIONS)
@click.argument("directory", type=click.Path(path_type=Path), default=Path())
@click.option("--watch", is_flag=True, help="Update the table until Ctrl-C.")
@click.option("--all", "every_run", is_flag=True, help="Show every run of a campaign.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for other programs.")
@click.option(
    "--every",
    metavar="SECONDS",
    type=click.FloatRange(min=0.1),
    default=2.0,
    help="Time between two updates of --watch. [2]",
)
def status(directory: Path, watch: bool, every_run: bool, as_json: bool, every: float) -> None:
    """Show the progress of the runs and campaigns below a directory."""
    import json
    from contextlib import suppress
    from time import sleep

    from rich.console import Console
    from rich.live import Live

    from retrain_campaign.report.status import as_plain, scan
    from retrain_campaign.report.status_tables import render

    if as_json:
        click.echo(json.dumps(as_plain(scan(directory)), indent=1))
        return
    console = Console(highlight=False, markup=False)
    first = render(scan(directory), every_run)
    if not watch:
        console.print(first, soft_wrap=not console.is_terminal)
        return
    with suppress(KeyboardInterrupt), Live(first, console=console, auto_refresh=False) as live:
        while True:
            sleep(every)
            live.update(render(scan(directory), every_run), refresh=True)
