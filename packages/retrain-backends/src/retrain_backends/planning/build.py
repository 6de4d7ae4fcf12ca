"""The configured planning detector."""

from collections.abc import Sequence

import numpy as np

from retrain_backends.config import PlanningConfig
from retrain_backends.errors import PluginError
from retrain_backends.plugins import build
from retrain_backends.protocols import PlanningDetector
from retrain_backends.types import Mask


def build_detector(config: PlanningConfig, strategic_grams: str) -> PlanningDetector:
    """The configured detector.

    Args:
      config: the `[planning]` table.
      strategic_grams: `logging.strategic_grams`, the phrases that plan; empty means the default.

    Raises:
      ConfigError: the phrases cannot be read, or the device cannot be used.
      ModelError: the embedding model cannot be loaded.
      PluginError: there is no such detector, it has no `masks`, or a package is missing.
    """
    return build("detector", config.detector, config, strategic_grams)


def planning_masks(detector: PlanningDetector, completions: Sequence[Sequence[str]]) -> list[Mask]:
    """The masks of completions.

    Raises:
      PluginError: the detector did not return one boolean for each token.
    """
    masks = [np.asarray(mask) for mask in detector.masks(completions)]
    wanted = [(len(tokens),) for tokens in completions]
    # A border: the detector may be the user's own.
    if [mask.shape for mask in masks] != wanted or any(mask.dtype != np.bool_ for mask in masks):
        raise PluginError(
            f"planning.detector: `{type(detector).__name__}.masks` must return one boolean array"
            " for each completion, with one entry for each token"
        )
    return masks
