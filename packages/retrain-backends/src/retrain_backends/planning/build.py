"""The configured planning detector."""

from retrain_backends.config import PlanningConfig
from retrain_backends.plugins import build
from retrain_backends.protocols import PlanningDetector


def build_detector(config: PlanningConfig, strategic_grams: str) -> PlanningDetector:
    """The configured detector.

    Args:
      config: the `[planning]` table.
      strategic_grams: `logging.strategic_grams`, the phrases to look for; empty means the default.

    Raises:
      ConfigError: the phrases cannot be read.
      NotAvailableError: a detector of a later version.
      PluginError: there is no such detector, or it has no `mask`.
    """
    return build("detector", config.detector, config, strategic_grams)
