"""What the controller of a campaign is told to do, and with what."""

from collections.abc import Mapping
from dataclasses import dataclass

from retrain_backends.config import CampaignConfig
from retrain_campaign.capacity import Capacity
from retrain_campaign.executors.protocol import Job
from retrain_campaign.plan import PlannedRun
from retrain_campaign.squeeze import Analyse


@dataclass(frozen=True)
class Orders:
    """The runs by name: `plan` has their configurations, `jobs` what to start for them.

    `analyse` is what to do with the first adapter; None for nothing.
    """

    plan: Mapping[str, PlannedRun]
    jobs: Mapping[str, Job]
    settings: CampaignConfig
    capacity: Capacity
    analyse: Analyse | None
