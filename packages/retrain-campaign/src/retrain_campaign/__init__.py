"""Campaigns: every learning rule under every seed, planned, run and compared.

Names are loaded on first use, so `import retrain_campaign` costs no more than the interpreter.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from retrain_campaign.compare import Comparison, draw_campaign
    from retrain_campaign.manifest import Manifest, RunEntry, read_manifest, write_manifest
    from retrain_campaign.plan import Campaign, PlannedRun, load_campaign, plan_runs
    from retrain_campaign.status import scan

__version__ = "0.1.0"

_NAMES_BY_MODULE = {
    "compare": ("Comparison", "draw_campaign"),
    "manifest": ("Manifest", "RunEntry", "read_manifest", "write_manifest"),
    "plan": ("Campaign", "PlannedRun", "load_campaign", "plan_runs"),
    "status": ("scan",),
}
_MODULE_OF = {name: module for module, names in _NAMES_BY_MODULE.items() for name in names}

__all__ = [
    "Campaign",
    "Comparison",
    "Manifest",
    "PlannedRun",
    "RunEntry",
    "__version__",
    "draw_campaign",
    "load_campaign",
    "plan_runs",
    "read_manifest",
    "scan",
    "write_manifest",
]


def __getattr__(name: str) -> object:
    """Load a public name from its module the first time it is asked for (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module `retrain_campaign` has no attribute `{name}`")
    value: object = getattr(import_module(f"retrain_campaign.{_MODULE_OF[name]}"), name)
    globals()[name] = value  # the next use finds it without coming here
    return value


def __dir__() -> list[str]:
    return __all__
