"""`retrain campaign FILE.toml | DIR [--flag value]...`: many runs from one file."""

from typing import TYPE_CHECKING

import click

from retrain_cli.command import ConfigCommand

if TYPE_CHECKING:
    from retrain_backends.config import Arguments

_SECTIONS = {
    "Arguments": (
        ("PATH.toml", "the file; without [campaign] in it, the rules are the five-step ablation"),
        ("DIR", "the directory of an earlier campaign, which is resumed as its file was"),
    ),
    "Examples": (
        ("retrain campaign.toml", "every condition under every seed"),
        ("retrain campaign.toml --seeds 1,2,3", "the same with other seeds"),
        ("retrain campaign.toml --resume", "resume the newest campaign of that file"),
        ("retrain campaign logs/campaign_...", "resume the campaign in that directory"),
    ),
    "Executors (--campaign-executor)": (
        ("process", "processes on this machine, with a GPU each where there are GPUs"),
        ("ray", "tasks of a Ray cluster; needs the extra retrain-campaign[ray]"),
        ("slurm", "jobs of Slurm; needs the extra retrain-campaign[slurm]"),
    ),
    "Exit codes": (
        ("0", "every run is done"),
        ("1", "a run failed; --resume tries it again"),
        ("2", "a mistake in the file or the flags; nothing was started"),
        ("130", "interrupted; every run saved itself, and --resume finishes them"),
    ),
}
_SHOWN = (
    "campaign.seeds",
    "campaign.max_steps",
    "campaign.parallel",
    "campaign.max_workers",
    "campaign.retries",
    "campaign.executor",
    "campaign.executor_options",
    "campaign.directory",
)


@click.command(cls=ConfigCommand, sections=_SECTIONS, shown=_SHOWN)
@click.argument("path", metavar="[PATH.toml | DIR]", type=click.Path(), required=False)
@click.option(
    "--config", default=None, metavar="FILE", help="Print the commands of the file's runs."
)
@click.option("--execute", is_flag=True, help="With --config: do the runs after all.")
def campaign(arguments: "Arguments", config: str | None, execute: bool) -> int:  # noqa: ARG001
    """Do all runs of a campaign, and compare them.

    Every condition runs under every seed. A run that dies is started again from its checkpoint. The
    word `campaign` may be left out before a file with [campaign]. Every other key of the file is a
    flag too (`--lr 1e-4`): `retrain flags` lists them.
    """
    from retrain_campaign.command import main

    return main(arguments)
