"""Runs as tasks of a Ray cluster, which places them, gives them their GPUs and tries them again."""

from dataclasses import replace
from typing import Any, Self

import ray
import ray.exceptions

from retrain_backends.config import read_options
from retrain_backends.errors import ConfigError, describe
from retrain_campaign.capacity import gpus_of_runs
from retrain_campaign.executors.options import RayOptions
from retrain_campaign.executors.protocol import Ended, Job, Tell, Worker
from retrain_campaign.executors.remote import Mailbox, RemoteRun
from retrain_campaign.executors.watch import Watch, Watched
from retrain_campaign.manifest import RunEntry
from retrain_campaign.plan import Campaign

_LOOK_S = 0.5
_INTERRUPTED = 130


class DiedError(Exception):
    """A run that ended badly on one of the cluster's machines; makes Ray try it again."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


class RayExecutor:
    """One task a run."""

    retries = True

    def __init__(self, options: RayOptions, gpus: float, retries: int) -> None:
        if not ray.is_initialized():
            # A border: the cluster may not be there, or of another version.
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
                f"{available:g}; a run would wait for ever"
            )
        self._cpus, self._gpus = options.cpus, wanted
        self._task = ray.remote(do).options(
            num_cpus=options.cpus,
            num_gpus=wanted,
            max_retries=retries,
            retry_exceptions=[DiedError],
        )
        self._watch: Watch[Any] = Watch(_outcome, _LOOK_S)

    @classmethod
    def from_campaign(cls, campaign: Campaign) -> Self:
        """Join the cluster, or start one.

        Raises:
          ConfigError: a wrong option, no such cluster, or it has not what a run asks for.
        """
        options = read_options(
            "campaign.executor_options", RayOptions, campaign.settings.executor_options
        )
        gpus = len(gpus_of_runs(campaign)) if options.gpus < 0 else 0
        return cls(options, gpus, campaign.settings.retries)

    def start(self, job: Job, tell: Tell) -> Worker:
        """Hand the task in; where it runs is told later."""
        mailbox = Mailbox(job.output.parent)
        mailbox.clear()
        if self._gpus:
            cores = {"OMP_NUM_THREADS": str(max(1, int(self._cpus)))}
            job = replace(job, environment={**job.environment, **cores})
        reference = self._task.remote(RemoteRun(job))
        number = reference.task_id().hex()
        self._watch.add(Watched(job.name, reference, number, mailbox, tell))
        return Worker(job=number)

    def adopt(self, entry: RunEntry, job: Job, tell: Tell) -> Worker | None:  # noqa: ARG002
        """None: tasks of Ray die with the campaign that they belong to."""
        return None

    def interrupt(self, name: str) -> None:
        """Have a run end after its checkpoint; one that has not begun does not begin."""
        if watched := self._watch.get(name):
            watched.mailbox.interrupt()
            if watched.worker is None:
                ray.cancel(watched.handle)

    def kill(self, name: str) -> None:
        """Have a run end at once."""
        if watched := self._watch.get(name):
            watched.mailbox.kill()
            if watched.worker is None:
                ray.cancel(watched.handle)

    def close(self) -> None:
        """Leave the cluster; one that was started for the campaign ends."""
        self._watch.close()
        ray.shutdown()


def do(run: RemoteRun) -> int:
    """The task: a run that ended badly raises, so that Ray tries it again."""
    exit_code = run()
    if exit_code not in (0, _INTERRUPTED):
        raise DiedError(exit_code)
    return exit_code


def _outcome(watched: Watched[Any]) -> Ended | None:
    if not ray.wait([watched.handle], timeout=0)[0]:
        return None
    # A border: what Ray raises says how the task ended.
    try:
        return Ended(watched.name, ray.get(watched.handle))
    except DiedError as error:
        return Ended(watched.name, error.exit_code)
    except ray.exceptions.TaskCancelledError:
        return Ended(watched.name, _INTERRUPTED)
    except ray.exceptions.RayError as error:
        return Ended(watched.name, None, f"Ray: {describe(error)}")
