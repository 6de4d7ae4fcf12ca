"""LoRA-Squeeze: find the rank that a trained adapter needs, and compress it to that rank.

Names are imported on first use, so that `import retrain_squeeze` is fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from retrain_squeeze.analysis import (
        ModuleCurve,
        RankVariance,
        SqueezeAnalysis,
        analyze_adapter,
    )
    from retrain_squeeze.compression import compress_adapter
    from retrain_squeeze.errors import (
        AdapterError,
        DownloadError,
        MissingExtraError,
        SqueezeConfigError,
        SqueezeError,
    )
    from retrain_squeeze.run import run_squeeze
    from retrain_squeeze.settings import SqueezeSettings

__version__ = "0.1.0"

_NAMES_BY_MODULE = {
    "analysis": ("ModuleCurve", "RankVariance", "SqueezeAnalysis", "analyze_adapter"),
    "compression": ("compress_adapter",),
    "errors": (
        "AdapterError",
        "DownloadError",
        "MissingExtraError",
        "SqueezeConfigError",
        "SqueezeError",
    ),
    "run": ("run_squeeze",),
    "settings": ("SqueezeSettings",),
}
_MODULE_OF = {name: module for module, names in _NAMES_BY_MODULE.items() for name in names}

__all__ = [
    "AdapterError",
    "DownloadError",
    "MissingExtraError",
    "ModuleCurve",
    "RankVariance",
    "SqueezeAnalysis",
    "SqueezeConfigError",
    "SqueezeError",
    "SqueezeSettings",
    "__version__",
    "analyze_adapter",
    "compress_adapter",
    "run_squeeze",
]


def __getattr__(name: str) -> object:
    """Import a public name on first use (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module `retrain_squeeze` has no attribute `{name}`")
    value: object = getattr(import_module(f"retrain_squeeze.{_MODULE_OF[name]}"), name)
    globals()[name] = value  # later uses do not call this function
    return value


def __dir__() -> list[str]:
    return __all__
