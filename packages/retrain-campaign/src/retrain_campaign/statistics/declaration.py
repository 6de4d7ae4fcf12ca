"""What a campaign compares, and how; declared before its first run."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from retrain_backends.errors import ConfigError

Stop: TypeAlias = Literal["none", "futility", "efficacy"]


@dataclass(frozen=True)
class Contrast:
    """Two conditions that are compared: the difference is treatment minus control."""

    treatment: str
    control: str

    def __str__(self) -> str:
        return f"{self.treatment} vs {self.control}"


@dataclass(frozen=True)
class DeclaredComparison:
    """A comparison as it was declared.

    Args:
      contrasts: the family over which errors are controlled.
      alpha: the family-wise error rate, two-sided.
      margin: differences smaller than this do not matter, in units of the metric; None if
        equivalence is not tested.
      pooled: estimate one spread from all conditions, and adjust by Dunnett's test; else each
        contrast has its own spread, and p values are adjusted by Holm's method.
      stop: "futility" stops a treatment that is unlikely to be better by the margin, after 3 or 5
        seeds; "efficacy" allows a conclusion after every seed.
    """

    contrasts: tuple[Contrast, ...]
    alpha: float = 0.05
    margin: float | None = None
    pooled: bool = False
    stop: Stop = "none"

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 0.5:
            raise ConfigError(
                f"alpha is {self.alpha}; it must be greater than 0 and less than 0.5, such as 0.05"
            )


def against_control(conditions: Sequence[str], control: str | None = None) -> tuple[Contrast, ...]:
    """Each other condition against the control; without a name, the first is the control."""
    reference = conditions[0] if control is None and conditions else control
    return tuple(
        Contrast(condition, str(reference)) for condition in conditions if condition != reference
    )


def declaration_problems(
    declared: DeclaredComparison, conditions: Sequence[str]
) -> tuple[str, ...]:
    """A sentence for each part of a declaration that cannot be evaluated with these conditions."""
    return (
        *_condition_problems(conditions),
        *(problem for contrast in declared.contrasts for problem in _wrong(contrast, conditions)),
        *(f"contrast `{twice}` is declared twice; name it once" for twice in _repeated(declared)),
        *_setting_problems(declared),
    )


def evaluable(declared: DeclaredComparison, conditions: Sequence[str]) -> DeclaredComparison:
    """The declaration without the parts that `declaration_problems` names."""
    contrasts = dict.fromkeys(c for c in declared.contrasts if not any(_wrong(c, conditions)))
    margin = declared.margin if declared.margin is not None and declared.margin > 0 else None
    without_margin = declared.stop == "futility" and margin is None
    conflict = declared.pooled and declared.stop != "none"
    return replace(
        declared,
        contrasts=tuple(contrasts),
        margin=margin,
        pooled=declared.pooled and not conflict,
        stop="none" if without_margin else declared.stop,
    )


def _condition_problems(conditions: Sequence[str]) -> Iterator[str]:
    if len(conditions) == 1:
        yield (
            f"there is one condition, `{conditions[0]}`, and a comparison needs two: only its mean "
            "and spread are reported"
        )


def _wrong(contrast: Contrast, conditions: Sequence[str]) -> Iterator[str]:
    known = ", ".join(f"`{condition}`" for condition in conditions)
    for name in dict.fromkeys((contrast.treatment, contrast.control)):
        if name not in conditions:
            yield f"contrast `{contrast}`: there is no condition `{name}`; there are {known}"
    if contrast.treatment == contrast.control:
        yield f"contrast `{contrast}` compares a condition with itself; name two conditions"


def _repeated(declared: DeclaredComparison) -> list[Contrast]:
    seen = list(declared.contrasts)
    return [contrast for contrast in dict.fromkeys(seen) if seen.count(contrast) > 1]


def _setting_problems(declared: DeclaredComparison) -> Iterator[str]:
    if declared.margin is not None and not declared.margin > 0:
        yield (
            f"margin is {declared.margin:g}: no data can show a difference of at most that, so "
            "equivalence is not tested; set one greater than 0, such as 0.02 for 2 points"
        )
    elif declared.margin is None and declared.stop == "futility":
        yield (
            'stop is "futility", and there is no margin to rule out, so no condition is stopped; '
            "set margin to the smallest difference that matters"
        )
    if declared.pooled and declared.stop != "none":
        yield (
            f'pooled needs all seeds of all conditions, which stop = "{declared.stop}" does not '
            "give, so spreads are not pooled; set one of the two"
        )
