"""The runs that the controller starts, and the limits it observes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from retrain_backends.atomic import write_atomically
from retrain_backends.config import CONFIG_FILE, RunConfig, dump_config, load_config
from retrain_backends.errors import ConfigError, RunError
from retrain_backends.train.storage.compatibility import changes_between, settings_of
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

    def write_config(self, name: str, run_dir: Path) -> None:
        """Write the configuration that a run starts or resumes from.

        Raises:
          RunError: the directory cannot be written.
        """
        # A border: the directory may belong to another user.
        try:
            run_dir.mkdir(parents=True, exist_ok=True)
            write_atomically(run_dir / CONFIG_FILE, dump_config(self.configs[name]))
        except PermissionError as error:
            raise RunError(f"{error.filename}: cannot be written ({error.strerror})") from error

    def has_changed(self, name: str, run_dir: Path) -> bool:
        """Whether a run was started with other settings; its number of steps does not count."""
        # A border: the file may have been damaged.
        try:
            before = settings_of(load_config(run_dir / CONFIG_FILE))
        except ConfigError:
            return True
        changes = changes_between(before, settings_of(self.configs[name]), evaluated=True)
        return any(change.setting != "training.max_steps" for change in changes)


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
