"""`retrain explain [PATH.toml] [--from DIR] [--flag value]...`: what a run would do and cost."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

    from retrain_backends.train.checks.explain import Chapter, Explanation
    from retrain_backends.train.checks.forecast import Amount

_WIDEST = 100


def explain(
    ctx: typer.Context,
    run_dir: Annotated[
        Path | None,
        typer.Option("--from", help="Directory of earlier runs, to judge by."),
    ] = None,
) -> None:
    """Say what a run or a campaign would do and cost, without doing it."""
    from rich.console import Console

    from retrain_backends.config import CONFIG_FILE, read_arguments
    from retrain_campaign.storage.manifest import is_campaign

    arguments = list(ctx.args)
    if run_dir and not read_arguments(arguments).paths:
        arguments.insert(0, str(run_dir if is_campaign(run_dir) else run_dir / CONFIG_FILE))
    told = _explanation(arguments, run_dir)
    console = Console(highlight=False, markup=False)
    console.width = min(console.width, _WIDEST)
    for chapter in told.chapters:
        console.print(_chapter(chapter))
    if told.amounts:
        console.print(_table(told.amounts))
    for note in told.notes:
        console.print(note)
    if told.problems:
        console.print("\nThis run would be refused:", style="bold red")
        for problem in told.problems:
            console.print(f"  {problem}")
        raise typer.Exit(2)


def _explanation(arguments: list[str], run_dir: Path | None) -> "Explanation":
    from rich.console import Console

    from retrain_backends.config import load_command_line
    from retrain_campaign.arguments import asks_for_campaign, read_campaign_arguments
    from retrain_campaign.plan.campaign import campaign_of

    waiting = Console(stderr=True).status("reading the data")
    if asks_for_campaign(arguments):
        asked = read_campaign_arguments(arguments)
        campaign = campaign_of(asked.config, asked.file)
        with waiting:
            from retrain_campaign.explain import explain_campaign

            return explain_campaign(campaign, run_dir, asked.directory)
    config = load_command_line(arguments)
    with waiting:
        from retrain_backends.train.checks.explain import explain as explain_run

        return explain_run(config, run_dir)


def _chapter(chapter: "Chapter") -> "RenderableType":
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in chapter.rows:
        table.add_row(Text(label), Text(text))
    return Group(Text(chapter.title, style="bold"), Padding(table, (0, 0, 1, 2)))


def _table(amounts: "tuple[Amount, ...]") -> "RenderableType":
    from rich import box
    from rich.table import Table

    from retrain_backends.tinker.ledger import money

    priced = any(amount.cost is not None for amount in amounts)
    table = Table(title="Tokens that are charged", title_justify="left", box=box.SIMPLE_HEAD)
    table.title_style = "bold"
    table.add_column("")
    for column in ("prompt", "sampled", "trained", *(["cost"] if priced else [])):
        table.add_column(column, justify="right", no_wrap=True)
    for amount in amounts:
        tokens = amount.tokens
        cells = [f"{count:,}" for count in (tokens.prompt, tokens.sampled, tokens.trained)]
        cost = [] if amount.cost is None else [money(amount.cost)]
        table.add_row(amount.label, *cells, *cost)
    return table
