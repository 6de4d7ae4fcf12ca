"""The options of each executor, `[campaign.executor_options]`."""

from typing import Literal

from pydantic import Field

from retrain_backends.config.section import CountOrZero, FreeTable, NonNegative, Section


class NoOptions(Section):
    """`[campaign.executor_options]` of `executor = "process"`, which has no options."""


class RayOptions(Section):
    """`[campaign.executor_options]` of `executor = "ray"`."""

    address: str = Field(
        default="",
        description="Address of the cluster, as for `ray.init`. Empty: start a cluster on this "
        "machine for the duration of the campaign.",
    )
    cpus: NonNegative = Field(default=1.0, description="CPU cores that a run requests.")
    gpus: float = Field(
        default=-1.0,
        ge=-1,
        description="GPUs that a run requests; a fraction shares a GPU. -1: as many as "
        "`backend.devices` names, if the cluster has any.",
    )


class SlurmOptions(Section):
    """`[campaign.executor_options]` of `executor = "slurm"`."""

    cluster: Literal["slurm", "local"] = Field(
        default="slurm",
        description="`local` starts the jobs on this machine, for tests without Slurm.",
    )
    hours: float = Field(default=24.0, gt=0, description="Time limit of a job.")
    partition: str = Field(default="", description="Partition. Empty: the cluster's default.")
    account: str = Field(default="", description="Account to charge. Empty: the user's default.")
    cpus: int = Field(default=1, ge=1, description="CPU cores of a run.")
    gpus: int = Field(
        default=-1, ge=-1, description="GPUs of a run. -1: as many as `backend.devices` names."
    )
    memory_gb: CountOrZero = Field(default=0, description="Memory in GB. 0: the cluster's default.")
    parameters: FreeTable = Field(
        default_factory=dict,
        description="Further parameters of `sbatch`, such as `constraint` or `qos`.",
    )
