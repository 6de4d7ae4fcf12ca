"""`retrain planning mine RUN`: phrases that mark planning tokens, from a model's own answers."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from retrain_cli.command import Command
from retrain_cli.dispatch import Group

if TYPE_CHECKING:
    from rich.table import Table

    from retrain_backends.planning.mining import Mined

_MOST_SHOWN = 20
_MOST_OF_A_CLUSTER = 4

_SECTIONS = {
    "Arguments": (("RUN", "the directory of a run, with its completions"),),
    "Examples": (
        ("retrain planning mine logs/train", "write logs/train/strategic_grams.json"),
        (
            'retrain --strategic-grams "$(cat logs/train/strategic_grams.json)"',
            "train with these phrases",
        ),
    ),
}


@click.group(cls=Group, no_args_is_help=True)
def planning() -> None:
    """Find phrases that mark planning tokens."""


@planning.command(cls=Command, sections=_SECTIONS)
@click.argument("directory", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Where to write the phrases, a JSON list. [RUN/strategic_grams.json]",
)
@click.option(
    "--planning-model",
    metavar="MODEL",
    default="",
    help="Embedding model: a directory, or a name on the hub. [all-MiniLM-L6-v2]",
)
@click.option(
    "--planning-device", metavar="DEVICE", default="cpu", help="Device of the model. [cpu]"
)
def mine(directory: Path, output: Path | None, planning_model: str, planning_device: str) -> None:
    """Mine the phrases that recur in the correct completions of a run.

    Phrases of three to five words are embedded and clustered; those of the fifth of the clusters
    that is in the most answers are written. Read the list before training with it: phrases that
    are frequent without planning are in it too.
    """
    from rich.console import Console

    from retrain_backends.config import PlanningConfig
    from retrain_backends.train.checks.phrase_mining import GRAMS_FILE, mine_run

    config = PlanningConfig(device=planning_device)
    if planning_model:
        config = config.model_copy(update={"model": planning_model})
    mined = mine_run(directory, config, output)
    console = Console(highlight=False, markup=False)
    console.print(_clusters(mined))
    click.echo(f"{len(mined.phrases)} phrases: {output or directory / GRAMS_FILE}")


def _clusters(mined: "Mined") -> "Table":
    from rich.table import Table

    title = (
        f"{mined.kept} of {len(mined.clusters)} clusters are kept, of the phrases in"
        f" {mined.answers:,} different correct completions"
    )
    table = Table(title=title, title_justify="left", min_width=len(title))
    table.add_column("in", justify="right")
    table.add_column("phrases", overflow="fold")
    for cluster in mined.clusters[: min(mined.kept, _MOST_SHOWN)]:
        more = len(cluster.phrases) - _MOST_OF_A_CLUSTER
        shown = ", ".join(cluster.phrases[:_MOST_OF_A_CLUSTER]) + f", … {more} more" * (more > 0)
        table.add_row(f"{cluster.answers / mined.answers:.0%}", shown)
    if mined.kept > _MOST_SHOWN:
        table.add_row("", f"… and {mined.kept - _MOST_SHOWN} more")
    return table
