"""The interface between a campaign and the system that executes its runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self, TypeAlias

from retrain_campaign.plan.campaign import Campaign
from retrain_campaign.storage.manifest import RunEntry

# Exit codes of a run that has saved a checkpoint after Ctrl-C or SIGTERM.
INTERRUPTED_CODES = (130, 143)


@dataclass(frozen=True)
class Job:
    """What to start for a run.

    Args:
      name: of the run.
      command: with its arguments.
      directory: to start it in.
      environment: variables that are added to the executor's own.
      output: file that stdout and stderr are appended to, in the run's directory.
    """

    name: str
    command: tuple[str, ...]
    directory: Path
    environment: Mapping[str, str]
    output: Path


@dataclass(frozen=True)
class Worker:
    """The process of a run, as in the manifest; None and empty values are not known (yet).

    `job` is the cluster's id of the job that the process belongs to.
    """

    host: str = ""
    pid: int | None = None
    pid_started: float | None = None
    job: str = ""


@dataclass(frozen=True)
class Ended:
    """A worker has ended.

    `exit_code` is None if it could not be observed. `reason` is why the executor could not execute
    the job; empty otherwise.
    """

    name: str
    exit_code: int | None
    reason: str = ""


@dataclass(frozen=True)
class Started:
    """A cluster has started the worker, or restarted it, on one of its machines."""

    name: str
    worker: Worker


Notify: TypeAlias = Callable[[Ended | Started], None]


class Executor(Protocol):
    """Starts workers and reports when they end; `notify` may be called from any thread."""

    retries: bool
    """Whether it restarts workers that died by itself, as often as `campaign.retries` says."""

    @classmethod
    def from_campaign(cls, campaign: Campaign) -> Self:
        """Create an executor from `campaign.executor_options`.

        Raises:
          ConfigError: a wrong option.
          PluginError: a package is missing.
        """
        ...

    def start(self, job: Job, notify: Notify) -> Worker:
        """Start a worker.

        Raises:
          RunError: it cannot be started.
        """
        ...

    def adopt(self, entry: RunEntry, job: Job, notify: Notify) -> Worker | None:
        """Take over a worker that an earlier controller started; None if it is gone."""
        ...

    def interrupt(self, name: str) -> None:
        """Have a worker save a checkpoint and end, as Ctrl-C would."""
        ...

    def kill(self, name: str) -> None:
        """End a worker at once."""
        ...

    def close(self) -> None:
        """Release all resources; workers that are still running are not stopped."""
        ...
