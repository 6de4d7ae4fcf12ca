"""`retrain explain [PATH.toml] [--from DIR]`: describe a run or a campaign without starting it."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from retrain_cli.command import ConfigCommand

if TYPE_CHECKING:
    from rich.console import RenderableType

    from retrain_backends.config import Arguments
    from retrain_backends.train.checks.explain import Chapter, Explanation
    from retrain_backends.train.checks.forecast import Amount

_WIDEST = 100


_SECTIONS = {
    "Arguments": (("PATH.toml", "the file of a run or a campaign; without it, retrain.toml here"),),
    "Examples": (
        ("retrain explain my.toml --lr 1e-4", "what that run would do"),
        ("retrain explain campaign.toml", "what a campaign would do, and its disk space"),
        (
            "retrain explain my.toml --from logs/a",
            "how long it takes, estimated from an earlier run",
        ),
    ),
    "Exit codes": (
        ("0", "the run would start"),
        ("2", "the run would be refused; the reasons are at the end of the page"),
    ),
}


@click.command(cls=ConfigCommand, sections=_SECTIONS)
@click.argument("path", metavar="[PATH.toml]", type=click.Path(), required=False)
@click.option(
    "--from",
    "run_dir",
    default=None,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Directory of earlier runs to estimate time and cost from; without PATH.toml, of the run "
    "to explain.",
)
def explain(arguments: "Arguments", run_dir: Path | None) -> int:
    """Describe what a run or a campaign would do and cost, without starting it.

    Nothing is written, and no model is loaded. Every key of the file is a flag too (`--lr 1e-4`):
    `retrain flags` lists them.
    """
    from rich.console import Console

    from retrain_backends.config import CONFIG_FILE
    from retrain_campaign.storage.campaign_directory import is_campaign

    if run_dir and not arguments.paths:
        path = run_dir if is_campaign(run_dir) else run_dir / CONFIG_FILE
        arguments = replace(arguments, paths=[str(path)])
    explanation = _explanation(arguments, run_dir)
    console = Console(highlight=False, markup=False)
    console.width = min(console.width, _WIDEST)
    for chapter in explanation.chapters:
        console.print(_chapter(chapter))
    if explanation.amounts:
        console.print(_table(explanation.amounts))
    for note in explanation.notes:
        console.print(note)
    if explanation.problems:
        console.print("\nThis run would be refused:", style="bold red")
        for problem in explanation.problems:
            console.print(f"  {problem}")
        return 2
    return 0


def _explanation(arguments: "Arguments", run_dir: Path | None) -> "Explanation":
    from rich.console import Console

    from retrain_backends.config import load_arguments
    from retrain_campaign.arguments import asks_for_campaign, read_campaign
    from retrain_campaign.plan.campaign import campaign_of

    waiting = Console(stderr=True).status("reading the data")
    if asks_for_campaign(arguments):
        asked = read_campaign(arguments)
        campaign = campaign_of(asked.config, asked.file)
        with waiting:
            from retrain_campaign.explain import explain_campaign

            return explain_campaign(campaign, run_dir, asked.directory)
    config = load_arguments(arguments)
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

    from retrain_backends.tinker.usage import money

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
