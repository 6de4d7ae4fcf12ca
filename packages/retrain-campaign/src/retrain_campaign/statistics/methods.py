"""The declared tests of a family of contrasts: Holm on paired t, pooled spread, or e-values."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from retrain_backends.types import Floats
from retrain_campaign.statistics.declaration import DeclaredComparison
from retrain_campaign.statistics.estimates import Estimate, paired_t
from retrain_campaign.statistics.families import holm, max_t_critical, max_t_p_value, pooled_t
from retrain_campaign.statistics.outcomes import Outcomes, Pair
from retrain_campaign.statistics.sequential import anytime_p_value, confidence_sequence

Interval: TypeAlias = tuple[float, float]


@dataclass(frozen=True)
class ContrastTest:
    """The declared test of a contrast.

    Args:
      seeds: those it rests on.
      difference: mean difference over these seeds.
      sd: standard deviation of the paired difference between seeds.
      interval: of confidence 1 - alpha, for this contrast alone; with pooled spread the same as
        `simultaneous`.
      simultaneous: of all contrasts together.
      p: of no difference, for this contrast alone; None with pooled spread.
      p_adjusted: the same over all contrasts.
      p_equivalence: of a difference of at least the margin, over all contrasts; None without
        margin. With e-values it is 0 or 1: whether `simultaneous` is inside the margin.
    """

    seeds: tuple[int, ...]
    difference: float
    sd: float
    interval: Interval
    simultaneous: Interval
    p: float | None
    p_adjusted: float
    p_equivalence: float | None


def tested_family(
    declared: DeclaredComparison, outcomes: Outcomes, pairs: Sequence[Pair], decided: Sequence[bool]
) -> list[ContrastTest | None]:
    """Test all contrasts of a declaration.

    Args:
      declared: the declaration, with at least one contrast.
      outcomes: of all runs.
      pairs: those of each contrast.
      decided: whether a contrast may get a verdict; one that may not counts in the family with
        p = 1.

    Returns:
      None for a contrast with fewer than two seeds.
    """
    if declared.pooled:
        return _pooled(declared, outcomes)
    if declared.stop == "efficacy":
        return _anytime(declared, pairs)
    estimates = [paired_t(pair.differences) if len(pair.seeds) > 1 else None for pair in pairs]
    tested = [e if may else None for e, may in zip(estimates, decided, strict=True)]
    adjusted = holm(np.array([1.0 if e is None else float(e.p_value()) for e in tested]))
    equivalence = _p_equivalence(declared, tested)
    found: list[ContrastTest | None] = []
    for index, (pair, estimate) in enumerate(zip(pairs, estimates, strict=True)):
        if estimate is None:
            found.append(None)
            continue
        found.append(
            ContrastTest(
                seeds=pair.seeds,
                difference=float(estimate.mean),
                sd=_spread(estimate, pair.seeds),
                interval=_plain(estimate.interval(declared.alpha)),
                simultaneous=_plain(estimate.interval(declared.alpha / len(pairs))),
                p=float(estimate.p_value()),
                p_adjusted=float(adjusted[index]),
                p_equivalence=equivalence[index],
            )
        )
    return found


def _pooled(declared: DeclaredComparison, outcomes: Outcomes) -> list[ContrastTest | None]:
    contrasts = declared.contrasts
    conditions = list(dict.fromkeys(n for c in contrasts for n in (c.control, c.treatment)))
    seeds, values = outcomes.metrics(conditions)
    if len(seeds) < 2:
        return [None] * len(contrasts)
    pairs = tuple((conditions.index(c.treatment), conditions.index(c.control)) for c in contrasts)
    family = pooled_t(values, pairs)
    df = int(family.df[0])
    p_values = np.where(family.se > 0, max_t_p_value(family.t_value(), pairs, df), 1)
    half = family.half_width(max_t_critical(declared.alpha, pairs, df))
    each = [Estimate(*parts) for parts in zip(family.mean, family.se, family.df, strict=True)]
    equivalence = _p_equivalence(declared, each)
    found: list[ContrastTest | None] = []
    for index, estimate in enumerate(each):
        limits = _plain((estimate.mean - half[index], estimate.mean + half[index]))
        found.append(
            ContrastTest(
                seeds=seeds,
                difference=float(estimate.mean),
                sd=_spread(estimate, seeds),
                interval=limits,
                simultaneous=limits,
                p=None,
                p_adjusted=float(p_values[index]),
                p_equivalence=equivalence[index],
            )
        )
    return found


def _anytime(declared: DeclaredComparison, pairs: Sequence[Pair]) -> list[ContrastTest | None]:
    p_values = np.array(
        [float(anytime_p_value(pair.differences)) if len(pair.seeds) > 1 else 1.0 for pair in pairs]
    )
    found: list[ContrastTest | None] = []
    for pair, p, p_adjusted in zip(pairs, p_values, holm(p_values), strict=True):
        if len(pair.seeds) < 2:
            found.append(None)
            continue
        estimate = paired_t(pair.differences)
        sequences = (
            _plain(confidence_sequence(pair.differences, declared.alpha / share))
            for share in (1, len(pairs))
        )
        alone, together = sequences
        margin = declared.margin
        inside = margin is not None and -margin < together[0] and together[1] < margin
        found.append(
            ContrastTest(
                seeds=pair.seeds,
                difference=float(estimate.mean),
                sd=_spread(estimate, pair.seeds),
                interval=alone,
                simultaneous=together,
                p=float(p),
                p_adjusted=float(p_adjusted),
                p_equivalence=None if margin is None else float(not inside),
            )
        )
    return found


def _p_equivalence(
    declared: DeclaredComparison, estimates: Sequence[Estimate | None]
) -> list[float | None]:
    margin = declared.margin
    if margin is None:
        return [None] * len(estimates)
    values = [1.0 if e is None else float(e.p_equivalence(margin)) for e in estimates]
    return [float(value) for value in holm(np.array(values))]


def _spread(estimate: Estimate, seeds: Sequence[int]) -> float:
    return float(estimate.se * np.sqrt(len(seeds)))


def _plain(limits: tuple[Floats, Floats]) -> Interval:
    return float(limits[0]), float(limits[1])
