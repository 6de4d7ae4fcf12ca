"""Executes runs as jobs of a Slurm cluster, through submitit.

A job that Slurm preempts, or that reaches its time limit, is requeued and resumes from its
checkpoint. The files of submitit are in the campaign's directory.
"""

import shutil
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import psutil
import submitit
import submitit.core.utils

from retrain_backends.config import read_options
from retrain_backends.errors import ConfigError, RunError, describe
from retrain_campaign.executors.job_poller import JobPoller, PolledJob
from retrain_campaign.executors.options import SlurmOptions
from retrain_campaign.executors.protocol import Ended, Job, Notify, Worker
from retrain_campaign.executors.remote import Mailbox, RemoteRun
from retrain_campaign.plan.campaign import Campaign
from retrain_campaign.plan.capacity import gpus_of_runs
from retrain_campaign.storage.manifest import RunEntry

FOLDER = "submitit"
_POLL_S = 1.0
_CHECKPOINT_S = 60.0  # of the 90 s that Slurm, set up by submitit, grants before it ends a job


class SlurmRun:
    """The callable of a job: executes the run, and saves it if Slurm preempts the job."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._run = RemoteRun(job)

    def __call__(self) -> int:
        """Execute the run, and return its exit code."""
        return self._run()

    def checkpoint(self) -> submitit.core.utils.DelayedSubmission:
        """Have the run save a checkpoint, and requeue it; called by submitit."""
        self._run.interrupt(_CHECKPOINT_S)
        return submitit.core.utils.DelayedSubmission(SlurmRun(self._job))


class SlurmExecutor:
    """Submits one job for each run."""

    retries = False

    def __init__(self, options: SlurmOptions, gpus: int) -> None:
        self._options = options
        self._gpus = gpus if options.gpus < 0 else options.gpus
        self._executor: submitit.AutoExecutor | None = None
        self._poller: JobPoller[submitit.Job[int]] = JobPoller(_outcome, _POLL_S)

    @classmethod
    def from_campaign(cls, campaign: Campaign) -> Self:
        """Create an executor from the options.

        Raises:
          ConfigError: a wrong option, or there is no Slurm on this machine.
        """
        options = read_options(
            "campaign.executor_options", SlurmOptions, campaign.settings.executor_options
        )
        if options.cluster == "slurm" and not shutil.which("sbatch"):
            raise ConfigError(
                "campaign.executor: `slurm` needs the command sbatch, which is not on this "
                "machine; start the campaign on one that has it, or set "
                'executor_options.cluster = "local"'
            )
        return cls(options, len(gpus_of_runs(campaign)) if options.gpus < 0 else 0)

    def start(self, job: Job, notify: Notify) -> Worker:
        """Submit a job; its process is reported once it has started."""
        mailbox = Mailbox(job.output.parent)
        mailbox.clear()
        if self._gpus:
            cores = {"OMP_NUM_THREADS": str(self._options.cpus)}
            job = replace(job, environment={**job.environment, **cores})
        # A border: Slurm may reject the job for any reason.
        try:
            handle = self._open(job).submit(SlurmRun(job))
        except Exception as error:
            raise RunError(f"Slurm did not accept the job: {describe(error)}") from error
        self._poller.add(PolledJob(job.name, handle, handle.job_id, mailbox, notify))
        return Worker(job=handle.job_id)

    def adopt(self, entry: RunEntry, job: Job, notify: Notify) -> Worker | None:
        """Find the job by its id; jobs continue if the campaign is killed."""
        if not entry.job:
            return None
        job_type = submitit.LocalJob if self._options.cluster == "local" else submitit.SlurmJob
        handle = job_type(_folder(job), entry.job)
        mailbox = Mailbox(job.output.parent)
        worker = mailbox.worker(entry.job)
        if handle.done() and not _is_alive(worker):
            return None
        self._poller.add(PolledJob(entry.name, handle, entry.job, mailbox, notify, worker))
        return worker or Worker(job=entry.job)

    def interrupt(self, name: str) -> None:
        """Have a run save a checkpoint and end; one that has not started is cancelled."""
        if polled := self._poller.get(name):
            polled.mailbox.interrupt()
            if polled.worker is None:
                polled.handle.cancel(check=False)

    def kill(self, name: str) -> None:
        """End a run at once."""
        if polled := self._poller.get(name):
            polled.mailbox.kill()
            if polled.worker is None:
                polled.handle.cancel(check=False)

    def close(self) -> None:
        """Stop polling; jobs that are running are not stopped."""
        self._poller.close()

    def _open(self, job: Job) -> submitit.AutoExecutor:
        """The executor of submitit, created with the first job, which gives its directory."""
        if self._executor is None:
            options = self._options
            executor = submitit.AutoExecutor(_folder(job), cluster=options.cluster)
            executor.update_parameters(
                name="retrain",
                timeout_min=max(1, round(60 * options.hours)),
                cpus_per_task=options.cpus,
                gpus_per_node=self._gpus,
                slurm_additional_parameters=dict(options.parameters),
                **({"mem_gb": options.memory_gb} if options.memory_gb else {}),
                **({"slurm_partition": options.partition} if options.partition else {}),
                **({"slurm_account": options.account} if options.account else {}),
            )
            self._executor = executor
        return self._executor


def _folder(job: Job) -> Path:
    return job.output.parent.parent.parent / FOLDER


def _outcome(polled: PolledJob[Any]) -> Ended | None:
    handle = polled.handle
    if handle.paths.result_pickle.exists():
        # A border: submitit raises the exception of the job.
        try:
            return Ended(polled.name, handle.result())
        except Exception as error:  # noqa: BLE001
            return Ended(polled.name, None, f"job {polled.job}: {describe(error)}")
    if not handle.done() or _is_alive(polled.worker):
        return None
    return Ended(polled.name, None, f"job {polled.job} is gone ({handle.state})")


def _is_alive(worker: Worker | None) -> bool:
    """Whether a worker is a running process of this machine."""
    if worker is None or worker.host != socket.gethostname() or worker.pid is None:
        return False
    try:
        return psutil.Process(worker.pid).create_time() == worker.pid_started
    except psutil.NoSuchProcess:
        return False
