"""Planning tokens by phrase: "let me check", "on second thought" and the like."""

from collections.abc import Sequence
from typing import Self

from retrain_backends.config import PlanningConfig
from retrain_backends.errors import ConfigError
from retrain_backends.types import Mask
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
        return cls(read_grams(strategic_grams))

    def masks(self, completions: Sequence[Sequence[str]]) -> list[Mask]:
        """True for planning tokens, for each completion."""
        return [planning_mask(tokens, self.grams) for tokens in completions]


def read_grams(strategic_grams: str) -> tuple[str, ...]:
    """The phrases in `logging.strategic_grams`; `retrain_core.DEFAULT_GRAMS` if it is empty.

    Raises:
      ConfigError: a text that begins like a JSON list but is not one.
    """
    # A border: text that the user wrote.
    try:
        return parse_strategic_grams(strategic_grams)
    except ValueError as error:
        raise ConfigError(f"logging.strategic_grams: {error}") from error
