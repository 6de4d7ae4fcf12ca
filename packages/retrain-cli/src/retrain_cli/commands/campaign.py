"""`retrain campaign FILE.toml | DIR [--flag value]...`: run or resume a campaign."""

from typing import TYPE_CHECKING

import click

from retrain_cli.command import ConfigCommand

if TYPE_CHECKING:
    from retrain_backends.config import Arguments

_SECTIONS = {
    "Arguments": (
        (
            "PATH.toml",
            "the file; without [campaign], the conditions are those of the five-step ablation",
        ),
        ("DIR", "the directory of an earlier campaign, which is resumed with its own file"),
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
        ("0", "all runs have finished"),
        ("1", "a run failed; --resume repeats it"),
        ("2", "a mistake in the file or the flags; nothing was started"),
        ("130", "interrupted; every run is saved, and --resume finishes them"),
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
@click.option("--execute", is_flag=True, help="With --config: start the runs instead.")
def campaign(arguments: "Arguments", config: str | None, execute: bool) -> int:  # noqa: ARG001
    """Run all runs of a campaign, and compare them.

    Every condition runs with every seed. A run whose process dies is restarted from its checkpoint.
    The word `campaign` may be omitted before a file with [campaign]. Every other key of the file is
    a flag too (`--lr 1e-4`): `retrain flags` lists them.
    """
    from retrain_campaign.command import main

    return main(arguments)
