"""One training run, from its configuration to its summary.

Names are loaded on first use, so that a check of a configuration need not load the loop.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from retrain_backends.tracking.summary import RunSummary
    from retrain_backends.train.loop import train

_MODULE_OF = {
    "RunSummary": "retrain_backends.tracking.summary",
    "train": "retrain_backends.train.loop",
}

__all__ = ["RunSummary", "train"]


def __getattr__(name: str) -> object:
    """Load a public name from its module on first use (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module `retrain_backends.train` has no attribute `{name}`")
    value: object = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
