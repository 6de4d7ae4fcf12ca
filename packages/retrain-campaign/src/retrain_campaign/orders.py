"""What the controller of a campaign is told to do, and with what."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from retrain_backends.config import CampaignConfig, SqueezeConfig
from retrain_campaign.capacity import Capacity
from retrain_campaign.executors.protocol import Job
from retrain_campaign.plan import PlannedRun
from retrain_campaign.squeeze import Analysis


@dataclass(frozen=True)
class Orders:
    """The runs by name: `plan` has their configurations, `jobs` what to start for them.

    `squeeze` is None unless an adapter is to be analysed, with `analyse`.
    """

    plan: Mapping[str, PlannedRun]
    jobs: Mapping[str, Job]
    settings: CampaignConfig
    capacity: Capacity
    squeeze: SqueezeConfig | None
    analyse: Callable[[str, SqueezeConfig], Analysis]
