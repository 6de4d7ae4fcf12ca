"""Executes runs as tasks of a Ray cluster, which places them, assigns GPUs and retries them."""

from dataclasses import replace
from typing import Any, Self

import ray
import ray.exceptions

from retrain_backends.config import read_options
from retrain_backends.errors import ConfigError, describe
from retrain_campaign.executors.job_poller import JobPoller, PolledJob
from retrain_campaign.executors.options import RayOptions
from retrain_campaign.executors.protocol import INTERRUPTED_CODES, Ended, Job, Notify, Worker
from retrain_campaign.executors.remote import Mailbox, RemoteRun
from retrain_campaign.plan.campaign import Campaign
from retrain_campaign.plan.capacity import gpus_of_runs
from retrain_campaign.storage.manifest import RunEntry

_POLL_S = 0.5
_INTERRUPTED = 130


class DiedError(Exception):
    """A run has failed on a machine of the cluster; makes Ray retry the task."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


class RayExecutor:
    """Submits one task for each run."""

    retries = True

    def __init__(self, options: RayOptions, gpus: float, retries: int) -> None:
        if not ray.is_initialized():
            # A border: the cluster may not be reachable, or have another version.
            try:
                ray.init(
                    address=options.address or "local",
                    include_dashboard=False,
                    log_to_driver=False,
                    configure_logging=False,
                )
            except Exception as error:
                raise ConfigError(
                    f"campaign.executor_options: no Ray at `{options.address}` ({describe(error)})"
                ) from error
        available = ray.cluster_resources().get("GPU", 0)
        wanted = options.gpus if options.gpus >= 0 else min(gpus, available)
        if wanted > available:
            raise ConfigError(
                f"campaign.executor_options: gpus = {wanted:g}, but the Ray cluster has "
                f"{available:g}; runs would never start: ask for fewer"
            )
        self._cpus, self._gpus = options.cpus, wanted
        self._task = ray.remote(run_task).options(
            num_cpus=options.cpus,
            num_gpus=wanted,
            max_retries=retries,
            retry_exceptions=[DiedError],
        )
        self._poller: JobPoller[Any] = JobPoller(_outcome, _POLL_S)

    @classmethod
    def from_campaign(cls, campaign: Campaign) -> Self:
        """Connect to the cluster, or start one.

        Raises:
          ConfigError: a wrong option, no such cluster, or too few GPUs in it.
        """
        options = read_options(
            "campaign.executor_options", RayOptions, campaign.settings.executor_options
        )
        gpus = len(gpus_of_runs(campaign)) if options.gpus < 0 else 0
        return cls(options, gpus, campaign.settings.retries)

    def start(self, job: Job, notify: Notify) -> Worker:
        """Submit a task; its process is reported once it has started."""
        mailbox = Mailbox(job.output.parent)
        mailbox.clear()
        if self._gpus:
            cores = {"OMP_NUM_THREADS": str(max(1, int(self._cpus)))}
            job = replace(job, environment={**job.environment, **cores})
        reference = self._task.remote(RemoteRun(job))
        task_id = reference.task_id().hex()
        self._poller.add(PolledJob(job.name, reference, task_id, mailbox, notify))
        return Worker(job=task_id)

    def adopt(self, entry: RunEntry, job: Job, notify: Notify) -> Worker | None:  # noqa: ARG002
        """None: the tasks of a campaign end with its process."""
        return None

    def interrupt(self, name: str) -> None:
        """Have a run save a checkpoint and end; one that has not started is cancelled."""
        if polled := self._poller.get(name):
            polled.mailbox.interrupt()
            if polled.worker is None:
                ray.cancel(polled.handle)

    def kill(self, name: str) -> None:
        """End a run at once."""
        if polled := self._poller.get(name):
            polled.mailbox.kill()
            if polled.worker is None:
                ray.cancel(polled.handle)

    def close(self) -> None:
        """Disconnect from the cluster; one that was started for the campaign is shut down."""
        self._poller.close()
        ray.shutdown()


def run_task(run: RemoteRun) -> int:
    """The task; raises if the run has failed, so that Ray retries it."""
    exit_code = run()
    if exit_code not in (0, *INTERRUPTED_CODES):
        raise DiedError(exit_code)
    return exit_code


def _outcome(polled: PolledJob[Any]) -> Ended | None:
    if not ray.wait([polled.handle], timeout=0)[0]:
        return None
    # A border: the exceptions of Ray say how the task ended.
    try:
        return Ended(polled.name, ray.get(polled.handle))
    except DiedError as error:
        return Ended(polled.name, error.exit_code)
    except ray.exceptions.TaskCancelledError:
        return Ended(polled.name, _INTERRUPTED)
    except ray.exceptions.RayError as error:
        return Ended(polled.name, None, f"Ray: {describe(error)}")
