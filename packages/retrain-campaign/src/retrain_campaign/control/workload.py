"""The runs that the controller starts, and the limits it observes."""

from collections.abc import Mapping
from dataclasses import dataclass

from retrain_backends.config import RunConfig
from retrain_campaign.control.adapter_analysis import Analyse
from retrain_campaign.executors.protocol import Job
from retrain_campaign.plan.capacity import Capacity
from retrain_campaign.storage.open_directory import OpenCampaign
from retrain_campaign.storage.run_results import OUTPUT_FILE


@dataclass(frozen=True)
class Workload:
    """What a controller runs.

    Args:
      configs: configuration of each run, by the run's name.
      jobs: what an executor starts for each run, by the run's name.
      capacity: how many runs at once, and the GPUs they share.
      retries: how often a run that died is started again.
      stagger_s: least seconds between two starts.
      analyse: analysis of the first finished run's adapter; None for none.
    """

    configs: Mapping[str, RunConfig]
    jobs: Mapping[str, Job]
    capacity: Capacity
    retries: int
    stagger_s: float
    analyse: Analyse | None = None


def workload_of(
    opened: OpenCampaign, capacity: Capacity, analyse: Analyse | None = None
) -> Workload:
    """The workload of a campaign whose directory is open."""
    settings = opened.campaign.settings
    return Workload(
        configs={run.name: run.config for run in opened.plan},
        jobs=_jobs(opened),
        capacity=capacity,
        retries=settings.retries,
        stagger_s=settings.stagger_seconds,
        analyse=analyse,
    )


def _jobs(opened: OpenCampaign) -> dict[str, Job]:
    environment = {
        "OMP_NUM_THREADS": str(opened.manifest.threads),
        "PYTHONUNBUFFERED": "1",  # so that a killed run leaves all of its output
    }
    return {
        entry.name: Job(
            name=entry.name,
            command=tuple(entry.command),
            directory=opened.working_directory,
            environment=environment,
            output=(opened.directory / entry.run_dir / OUTPUT_FILE).resolve(),
        )
        for entry in opened.manifest.runs
    }
