"""The command of `retrain campaign` and `python -m retrain_campaign`."""

import os
from datetime import datetime

import psutil
from rich.console import Console

from retrain_backends.config import Arguments, load_config
from retrain_backends.dotted_names import load_object
from retrain_backends.tracking.console import print_lines
from retrain_campaign.arguments import read_campaign
from retrain_campaign.plan.campaign import campaign_of, plan_runs
from retrain_campaign.plan.capacity import capacity_of, this_machine
from retrain_campaign.plan.command_lines import command_line
from retrain_campaign.storage.find_directory import new_directory


def main(read: Arguments) -> int:
    """Run a campaign, or print its commands, and return the exit code.

    Raises:
      RetrainError: the command line, the file or the directory is not usable.
    """
    asked = read_campaign(read)
    campaign = campaign_of(asked.config, asked.file)
    if asked.execute:
        # Imported by name, so that mistakes in the file are reported before the slow imports.
        return load_object("retrain_campaign.control.run_campaign:run_campaign")(
            campaign,
            resume=asked.resume,
            directory=asked.directory,
            started=psutil.Process().create_time(),
        )
    console = Console(highlight=False)
    plan = plan_runs(campaign, new_directory(campaign, datetime.now()))
    threads = capacity_of(campaign, this_machine(os.environ), len(plan)).threads
    # Without the flags of this command line, which the printed commands repeat.
    in_file = load_config(asked.file)
    for run in plan:
        print_lines(console, command_line(asked.file, in_file, run, threads))
    return 0
