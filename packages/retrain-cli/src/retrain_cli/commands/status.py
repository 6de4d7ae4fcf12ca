"""`retrain status [DIR]`: how far the runs and campaigns below a directory are."""

from pathlib import Path
from typing import Annotated

import typer


def status(
    directory: Annotated[Path, typer.Argument(help="Where to look, and below.")] = Path(),
    watch: Annotated[bool, typer.Option("--watch", help="Look again and again.")] = False,
    every_run: Annotated[bool, typer.Option("--all", help="Show every run of a campaign.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For other programs.")] = False,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 2.0,
) -> None:
    """Show how far the runs and campaigns below a directory are."""
    import json
    from contextlib import suppress
    from time import sleep

    from rich.console import Console
    from rich.live import Live

    from retrain_campaign.report.status import as_plain, scan
    from retrain_campaign.report.status_tables import render

    if as_json:
        typer.echo(json.dumps(as_plain(scan(directory)), indent=1))
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
