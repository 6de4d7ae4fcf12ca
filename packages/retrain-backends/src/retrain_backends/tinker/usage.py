"""The usage of a service by a run: tokens, cost and time, and whether a budget is spent."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock
from time import monotonic
from typing import Self

from retrain_backends.tinker.options import Prices
from retrain_backends.types import Usage

TOTAL = "_total"  # suffix of the figures of the whole run


@dataclass(frozen=True)
class TokenCount:
    """Tokens as a service charges them.

    Args:
      prompt: read before a completion was sampled.
      sampled: of completions, whether they were trained on or not.
      trained: of whole sequences, prompts included, that were trained on or scored.
    """

    prompt: int = 0
    sampled: int = 0
    trained: int = 0

    def __add__(self, other: "TokenCount") -> "TokenCount":
        return TokenCount(
            self.prompt + other.prompt,
            self.sampled + other.sampled,
            self.trained + other.trained,
        )

    def __sub__(self, other: "TokenCount") -> "TokenCount":
        return TokenCount(
            self.prompt - other.prompt,
            self.sampled - other.sampled,
            self.trained - other.trained,
        )

    def times(self, factor: float) -> "TokenCount":
        """The counts times a factor, rounded to whole tokens."""
        return TokenCount(
            round(self.prompt * factor), round(self.sampled * factor), round(self.trained * factor)
        )

    def cost(self, prices: Prices) -> float:
        """(prompt p_prompt + sampled p_sampled + trained p_trained) / 10^6, in the prices' unit."""
        return (
            self.prompt * prices.prompt
            + self.sampled * prices.sampled
            + self.trained * prices.trained
        ) / 1e6

    @classmethod
    def from_figures(cls, figures: Mapping[str, float], suffix: str = "") -> Self:
        """The inverse of `figures`; KeyError if a figure is missing."""
        kinds = ("prompt", "sampled", "trained")
        return cls(*(int(figures[f"{kind}_tokens_charged{suffix}"]) for kind in kinds))

    def figures(self, suffix: str = "") -> dict[str, float]:
        """The columns of `metrics.jsonl`."""
        return {
            f"prompt_tokens_charged{suffix}": self.prompt,
            f"sampled_tokens_charged{suffix}": self.sampled,
            f"trained_tokens_charged{suffix}": self.trained,
        }


def money(amount: float) -> str:
    """An amount in the unit of the prices: to the hundredth, or two digits of less than one."""
    return f"{amount:,.2f}" if amount >= 1 else f"{amount:#.2g}"


class UsageMeter:
    """Counts what a run uses; thread-safe.

    Args:
      prices: per million tokens; None if they are not known.
      max_cost: cost at which the run ends; 0 for no limit. Needs prices.
      max_hours: hours after which the run ends; 0 for no limit.
      clock: seconds that never go backwards.
    """

    def __init__(
        self,
        prices: Prices | None,
        max_cost: float = 0.0,
        max_hours: float = 0.0,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._prices = prices
        self._max_cost = max_cost
        self._max_hours = max_hours
        self._clock = clock
        self._started_s = clock()  # moved back by the hours of a resumed run
        self._lock = Lock()
        self._totals = TokenCount()
        self._taken = TokenCount()  # the totals at the last call of `take`

    def add(self, prompt: int = 0, sampled: int = 0, trained: int = 0) -> None:
        """Count the tokens of a call."""
        with self._lock:
            self._totals += TokenCount(prompt, sampled, trained)

    @property
    def totals(self) -> TokenCount:
        """All tokens of the run, those before it was resumed included."""
        return self._totals

    @property
    def cost(self) -> float | None:
        """The cost of all tokens; None without prices."""
        return None if self._prices is None else self._totals.cost(self._prices)

    @property
    def hours(self) -> float:
        """Hours of the run, without the time between its end and its resumption."""
        return (self._clock() - self._started_s) / 3600

    def take(self) -> Usage:
        """Tokens since the last call, totals of the run, and whether a budget is spent."""
        with self._lock:
            totals, before = self._totals, self._taken
            self._taken = totals
        cost = {} if self.cost is None else {"cost": self.cost}
        figures = {
            **(totals - before).figures(),
            **totals.figures(TOTAL),
            **cost,
            "hours": self.hours,
        }
        return Usage(figures, "; ".join(self._spent()))

    def state(self) -> dict[str, float]:
        """The state for a checkpoint; `restore` reads it."""
        return {**self._totals.figures(TOTAL), "hours": self.hours}

    def restore(self, state: Mapping[str, float]) -> None:
        """Continue counting from a checkpoint.

        Usage after the checkpoint is counted only if this meter has counted it: the larger of the
        two counts is kept. The cost is that of all tokens at the present prices.
        """
        with self._lock:
            counted = self._totals.figures(TOTAL)
            larger = {name: max(figure, state[name]) for name, figure in counted.items()}
            self._totals = self._taken = TokenCount.from_figures(larger, TOTAL)
        self._started_s = self._clock() - 3600 * max(self.hours, state["hours"])

    def _spent(self) -> list[str]:
        spent = []
        if self._max_cost and self.cost is not None and self.cost >= self._max_cost:
            spent.append(
                f"the run has cost {money(self.cost)}, and "
                f"backend.options.max_cost = {self._max_cost:g} (raise it to continue)"
            )
        if self._max_hours and self.hours >= self._max_hours:
            spent.append(
                f"the run has taken {self.hours:.2f} hours, and "
                f"backend.options.max_hours = {self._max_hours:g} (raise it to continue)"
            )
        return spent
