"""Checks of a planning detector. Each takes a `DetectorCase` and fails with an AssertionError."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from retrain_backends.planning import planning_masks
from retrain_backends.protocols import PlanningDetector

Texts = Sequence[str]

_COMPLETIONS: tuple[Texts, ...] = (
    ("Let", " me", " ver", "ify", " this", ".", " 3", " +", " 4", " =", " 7", "."),
    (),
    ("On second thought", ", start over", ".\n\nThe sum is ", "12.", "<|im_end|>"),
    ("Caf", "\ufffd", "\ufffd", "s: ", "let me think", " \ufffd\ufffd", "", "…"),
    ("",),
)


@dataclass(frozen=True)
class DetectorCase:
    """How to make the detector under test, and completions as the texts of their tokens.

    Args:
      make: builds a new detector.
      planning: a completion of which the detector marks some tokens.
      execution: one of which it marks none.
    """

    make: Callable[[], PlanningDetector]
    planning: Texts = ("Let", " me", " check", " this", " again", ".")
    execution: Texts = ("So", " 12", " +", " 30", " is", " 42", ".")

    @property
    def completions(self) -> tuple[Texts, ...]:
        """Those of the case, and unusual ones: empty, with parts of characters, a special token."""
        return (self.planning, self.execution, *_COMPLETIONS)

    def marks(self, completions: Sequence[Texts]) -> list[list[bool]]:
        """The masks of a new detector."""
        return _marks(self.make(), completions)


def check_every_token_has_a_mark(case: DetectorCase) -> None:
    """There is one boolean for each token of each completion, and none without completions."""
    assert case.marks(()) == [], "masks without completions"
    case.marks(case.completions)


def check_planning_is_marked(case: DetectorCase) -> None:
    """Some tokens of `planning` are marked, and none of `execution`."""
    planning, execution = case.marks((case.planning, case.execution))
    assert any(planning), f"no token is marked in {case.planning}"
    assert not any(execution), f"a token is marked in {case.execution}"


def check_completions_are_independent(case: DetectorCase) -> None:
    """The mask of a completion is the same alone, among others, and in another order."""
    together = case.marks(case.completions)
    alone = [case.marks((tokens,))[0] for tokens in case.completions]
    assert together == alone, "masks depend on the other completions"
    backwards = case.marks(case.completions[::-1])
    assert together == backwards[::-1], "masks depend on the order of the completions"


def check_steps_are_independent(case: DetectorCase) -> None:
    """The same detector marks a completion alike in every step, as a resumed run needs."""
    detector = case.make()
    first = _marks(detector, case.completions)
    _marks(detector, case.completions[::2])
    assert first == _marks(detector, case.completions), "masks depend on earlier steps"


DETECTOR_CHECKS: tuple[Callable[[DetectorCase], None], ...] = (
    check_every_token_has_a_mark,
    check_planning_is_marked,
    check_completions_are_independent,
    check_steps_are_independent,
)


def _marks(detector: PlanningDetector, completions: Sequence[Texts]) -> list[list[bool]]:
    masks = planning_masks(detector, completions)
    return [np.asarray(mask).tolist() for mask in masks]
