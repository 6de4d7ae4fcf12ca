"""`retrain campaign` and `python -m retrain_campaign`: many runs from one file."""

import os
from datetime import datetime

from rich.console import Console

from retrain_backends.config import Arguments, load_config
from retrain_backends.dotted_names import load_object
from retrain_backends.tracking.console import print_lines
from retrain_campaign.arguments import read_campaign
from retrain_campaign.commands import command_line
from retrain_campaign.plan.campaign import campaign_of, plan_runs
from retrain_campaign.plan.capacity import capacity_of, this_machine
from retrain_campaign.storage.find_directory import new_directory


def main(read: Arguments) -> int:
    """Do what a command line asks for, and return the exit code.

    Raises:
      RetrainError: something is wrong with what was asked for.
    """
    asked = read_campaign(read)
    campaign = campaign_of(asked.config, asked.file)
    if asked.execute:
        # By name, so that a mistake in the file is reported before the slow imports.
        return load_object("retrain_campaign.control.run_campaign:run_campaign")(
            campaign, resume=asked.goes_on, directory=asked.directory
        )
    console = Console(highlight=False)
    plan = plan_runs(campaign, new_directory(campaign, datetime.now()))
    threads = capacity_of(campaign, this_machine(os.environ), len(plan)).threads
    written = load_config(asked.file)  # the commands name the file alone, so they repeat the flags
    for run in plan:
        print_lines(console, command_line(asked.file, written, run, threads))
    return 0
