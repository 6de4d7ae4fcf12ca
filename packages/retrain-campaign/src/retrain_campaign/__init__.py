"""Campaigns: every condition with every seed, planned, run and compared.

Names are imported on first use, so that `import retrain_campaign` is fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from retrain_campaign.plan.campaign import Campaign, PlannedRun, load_campaign, plan_runs
    from retrain_campaign.report.compare import Comparison, compare, draw_campaign
    from retrain_campaign.report.status import scan
    from retrain_campaign.storage.manifest import Manifest, RunEntry, write_manifest
    from retrain_campaign.storage.manifest_reader import read_manifest

__version__ = "0.1.0"

_NAMES_BY_MODULE = {
    "plan.campaign": ("Campaign", "PlannedRun", "load_campaign", "plan_runs"),
    "report.compare": ("Comparison", "compare", "draw_campaign"),
    "report.status": ("scan",),
    "storage.manifest": ("Manifest", "RunEntry", "write_manifest"),
    "storage.manifest_reader": ("read_manifest",),
}
_MODULE_OF = {name: module for module, names in _NAMES_BY_MODULE.items() for name in names}

__all__ = [
    "Campaign",
    "Comparison",
    "Manifest",
    "PlannedRun",
    "RunEntry",
    "__version__",
    "compare",
    "draw_campaign",
    "load_campaign",
    "plan_runs",
    "read_manifest",
    "scan",
    "write_manifest",
]


def __getattr__(name: str) -> object:
    """Import a public name on first use (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module `retrain_campaign` has no attribute `{name}`")
    value: object = getattr(import_module(f"retrain_campaign.{_MODULE_OF[name]}"), name)
    globals()[name] = value  # later uses do not call this function
    return value


def __dir__() -> list[str]:
    return __all__
