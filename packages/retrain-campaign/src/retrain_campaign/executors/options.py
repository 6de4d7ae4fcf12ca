"""What can be set in `[campaign.executor_options]`, for each executor."""

from typing import Literal

from pydantic import Field

from retrain_backends.config.section import CountOrZero, FreeTable, NonNegative, Section


class NoOptions(Section):
    """`[campaign.executor_options]` of processes: there is nothing to set."""


class RayOptions(Section):
    """`[campaign.executor_options]` of `executor = "ray"`."""

    address: str = Field(
        default="",
        description="Address of the cluster, as for `ray.init`. Empty: a cluster of this machine "
        "alone, for the time of the campaign.",
    )
    cpus: NonNegative = Field(default=1.0, description="CPU cores that a run asks for.")
    gpus: float = Field(
        default=-1.0,
        ge=-1,
        description="GPUs that a run asks for, a fraction to share them. -1: as many as "
        "`backend.devices` names, if the cluster has any.",
    )


class SlurmOptions(Section):
    """`[campaign.executor_options]` of `executor = "slurm"`."""

    cluster: Literal["slurm", "local"] = Field(
        default="slurm", description="`local` starts the jobs on this machine, to try things out."
    )
    hours: float = Field(default=24.0, gt=0, description="Time limit of a job.")
    partition: str = Field(default="", description="Partition. Empty: the cluster's own choice.")
    account: str = Field(default="", description="Account that pays. Empty: the user's own.")
    cpus: int = Field(default=1, ge=1, description="CPU cores of a run.")
    gpus: int = Field(
        default=-1, ge=-1, description="GPUs of a run. -1: as many as `backend.devices` names."
    )
    memory_gb: CountOrZero = Field(default=0, description="Memory. 0: the cluster's own choice.")
    parameters: FreeTable = Field(
        default_factory=dict, description="More of `sbatch`, such as `constraint`, `qos`, `time`."
    )
