"""What a campaign asks of whatever carries its runs out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self, TypeAlias

from retrain_campaign.manifest import RunEntry
from retrain_campaign.plan import Campaign


@dataclass(frozen=True)
class Job:
    """What to start: a command, in a directory, with variables on top of the environment.

    `output` is the file that what it says is appended to; `gpus` are those it needs, `threads` the
    CPU cores.
    """

    name: str
    command: tuple[str, ...]
    directory: Path
    environment: Mapping[str, str]
    output: Path
    gpus: int
    threads: int


@dataclass(frozen=True)
class Worker:
    """What was started, as the manifest has it; None and empty for what is not known (yet)."""

    host: str = ""
    pid: int | None = None
    pid_started: float | None = None
    job: str = ""


@dataclass(frozen=True)
class Ended:
    """A worker that has ended; the exit code is None when nobody could see it.

    `reason` is why the executor itself could not carry the job out; empty otherwise.
    """

    name: str
    exit_code: int | None
    reason: str = ""


@dataclass(frozen=True)
class Placed:
    """A cluster has started the worker, or started it again, on one of its machines."""

    name: str
    worker: Worker


Tell: TypeAlias = Callable[[Ended | Placed], None]


class Executor(Protocol):
    """Starts workers and tells when they end, from any thread."""

    retries: bool
    """Whether it starts workers that died again by itself, as often as the campaign says."""

    @classmethod
    def from_campaign(cls, campaign: Campaign) -> Self:
        """Make one as `[campaign] executor_options` says.

        Raises:
          ConfigError: a wrong option.
          PluginError: a package is missing.
        """
        ...

    def start(self, job: Job, tell: Tell) -> Worker:
        """Start a worker.

        Raises:
          RunError: it cannot be started.
        """
        ...

    def adopt(self, entry: RunEntry, job: Job, tell: Tell) -> Worker | None:
        """Take over a worker of an earlier controller; None if it is gone."""
        ...

    def interrupt(self, name: str) -> None:
        """Have a worker end after its checkpoint, as Ctrl-C would."""
        ...

    def kill(self, name: str) -> None:
        """End a worker at once."""
        ...

    def close(self) -> None:
        """Let go of whatever is held; workers that still run go on."""
        ...
