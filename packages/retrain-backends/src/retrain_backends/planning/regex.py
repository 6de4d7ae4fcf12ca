"""Planning tokens by phrase: "let me check", "on second thought" and the like."""

from collections.abc import Sequence
from typing import Self

import numpy as np
import numpy.typing as npt

from retrain_backends.config import PlanningConfig
from retrain_backends.errors import ConfigError
from retrain_core import parse_strategic_grams, planning_mask


class RegexDetector:
    """Marks every token that overlaps one of the phrases (`retrain_core.planning_mask`).

    Args:
      grams: the phrases, lower or upper case alike.
    """

    def __init__(self, grams: Sequence[str]) -> None:
        self.grams = tuple(grams)

    @classmethod
    def from_config(cls, _config: PlanningConfig, strategic_grams: str) -> Self:
        """A detector of the configured phrases, or of the default ones if there are none.

        Raises:
          ConfigError: a text that begins like a JSON list but is not one.
        """
        # A border: text that the user wrote.
        try:
            return cls(parse_strategic_grams(strategic_grams))
        except ValueError as error:
            raise ConfigError(f"logging.strategic_grams: {error}") from error

    def mask(self, tokens: Sequence[str]) -> npt.NDArray[np.bool_]:
        """True for planning tokens; one entry for each token text, in order."""
        return planning_mask(tokens, self.grams)
