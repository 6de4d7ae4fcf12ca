"""Runs as jobs of a Slurm cluster, through submitit, whose files are in the campaign's directory.

A job that Slurm preempts, or whose time is over, is queued again, and goes on from its checkpoint.
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
from retrain_campaign.capacity import gpus_of_runs
from retrain_campaign.executors.options import SlurmOptions
from retrain_campaign.executors.protocol import Ended, Job, Tell, Worker
from retrain_campaign.executors.remote import Mailbox, RemoteRun
from retrain_campaign.executors.watch import Watch, Watched
from retrain_campaign.manifest import RunEntry
from retrain_campaign.plan import Campaign

FOLDER = "submitit"
_LOOK_S = 1.0
_CHECKPOINT_S = 60.0  # of the 90 s that submitit has Slurm give before it ends a job
_INTERRUPTED = 130


class SlurmRun:
    """What a job calls: the run, and what to do when Slurm takes the machine away."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._run = RemoteRun(job)

    def __call__(self) -> int:
        """Do the run, and return its exit code."""
        return self._run()

    def checkpoint(self) -> submitit.core.utils.DelayedSubmission:
        """Have the run save itself, and queue it again; called by submitit."""
        self._run.interrupt(_CHECKPOINT_S)
        return submitit.core.utils.DelayedSubmission(SlurmRun(self._job))


class SlurmExecutor:
    """One job a run."""

    retries = False

    def __init__(self, options: SlurmOptions, gpus: int) -> None:
        self._options = options
        self._gpus = gpus if options.gpus < 0 else options.gpus
        self._executor: submitit.AutoExecutor | None = None
        self._watch: Watch[submitit.Job[int]] = Watch(_outcome, _LOOK_S)

    @classmethod
    def from_campaign(cls, campaign: Campaign) -> Self:
        """Read the options.

        Raises:
          ConfigError: a wrong option, or there is no Slurm here.
        """
        options = read_options(
            "campaign.executor_options", SlurmOptions, campaign.settings.executor_options
        )
        if options.cluster == "slurm" and not shutil.which("sbatch"):
            raise ConfigError(
                "campaign.executor: `slurm` needs the command sbatch, which this machine has not; "
                'start the campaign where it is, or set executor_options.cluster = "local"'
            )
        return cls(options, len(gpus_of_runs(campaign)) if options.gpus < 0 else 0)

    def start(self, job: Job, tell: Tell) -> Worker:
        """Hand the job in; where it runs is told later."""
        mailbox = Mailbox(job.output.parent)
        mailbox.clear()
        if self._gpus:
            cores = {"OMP_NUM_THREADS": str(self._options.cpus)}
            job = replace(job, environment={**job.environment, **cores})
        # A border: whatever Slurm has against the job.
        try:
            handle = self._open(job).submit(SlurmRun(job))
        except Exception as error:
            raise RunError(f"Slurm did not take the job: {describe(error)}") from error
        self._watch.add(Watched(job.name, handle, handle.job_id, mailbox, tell))
        return Worker(job=handle.job_id)

    def adopt(self, entry: RunEntry, job: Job, tell: Tell) -> Worker | None:
        """A job goes on when the campaign is killed, and is known by its number."""
        if not entry.job:
            return None
        kind = submitit.LocalJob if self._options.cluster == "local" else submitit.SlurmJob
        handle = kind(_folder(job), entry.job)
        mailbox = Mailbox(job.output.parent)
        worker = mailbox.worker(entry.job)
        if handle.done() and not _is_alive(worker):
            return None
        self._watch.add(Watched(entry.name, handle, entry.job, mailbox, tell, worker))
        return worker or Worker(job=entry.job)

    def interrupt(self, name: str) -> None:
        """Have a run end after its checkpoint; one that has not begun does not begin."""
        if watched := self._watch.get(name):
            watched.mailbox.interrupt()
            if watched.worker is None:
                watched.handle.cancel(check=False)

    def kill(self, name: str) -> None:
        """Have a run end at once."""
        if watched := self._watch.get(name):
            watched.mailbox.kill()
            if watched.worker is None:
                watched.handle.cancel(check=False)

    def close(self) -> None:
        """Look no more; jobs that run go on."""
        self._watch.close()

    def _open(self, job: Job) -> submitit.AutoExecutor:
        """The executor of submitit, made with the first job, which knows the campaign's place."""
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


def _outcome(watched: Watched[Any]) -> Ended | None:
    handle = watched.handle
    if handle.paths.result_pickle.exists():
        # A border: submitit raises what the job raised.
        try:
            return Ended(watched.name, handle.result())
        except Exception as error:  # noqa: BLE001
            return Ended(watched.name, None, f"job {watched.job}: {describe(error)}")
    if not handle.done() or _is_alive(watched.worker):
        return None
    return Ended(watched.name, None, f"job {watched.job} is gone ({handle.state})")


def _is_alive(worker: Worker | None) -> bool:
    """Whether a worker is a living process of this machine."""
    if worker is None or worker.host != socket.gethostname() or worker.pid is None:
        return False
    try:
        return psutil.Process(worker.pid).create_time() == worker.pid_started
    except psutil.NoSuchProcess:
        return False
