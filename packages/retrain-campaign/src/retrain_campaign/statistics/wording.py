"""The results of a contrast as sentences; differences of accuracies in percentage points."""

from collections.abc import Iterator, Sequence
from math import isfinite

from retrain_campaign.statistics.analysis import Analysis, ContrastResult
from retrain_campaign.statistics.declaration import DeclaredComparison
from retrain_campaign.statistics.estimates import SIGN_FLIP_SEEDS
from retrain_campaign.statistics.methods import ContrastTest, Interval
from retrain_campaign.statistics.power import MOST_SEEDS, SeedsNeeded

_LISTED = 8


class Unit:
    """How differences of a metric are written.

    Args:
      points: in percentage points, as for accuracies and rates; else as plain numbers.
    """

    def __init__(self, points: bool = True) -> None:
        self.points = points

    def difference(self, value: float) -> str:
        """A difference with its sign."""
        return self._written(value, "+")

    def size(self, value: float) -> str:
        """A size without sign."""
        return self._written(value, "")

    def interval(self, limits: Interval) -> str:
        """Both limits, as in `+1.2 to +4.5 points`."""
        low, high = limits
        if not isfinite(low) or not isfinite(high):
            return "unbounded"
        if self.points:
            return f"{100 * low:+.1f} to {100 * high:+.1f} points"
        return f"{low:+.4g} to {high:+.4g}"

    def _written(self, value: float, sign: str) -> str:
        return f"{100 * value:{sign}.1f} points" if self.points else f"{value:{sign}.4g}"


def sentences(analysis: Analysis, points: bool = True) -> tuple[str, ...]:
    """What was found: the notes, then the verdict of each contrast with what it rests on."""
    unit = Unit(points)
    return (
        *analysis.notes,
        *(s for result in analysis.contrasts for s in about(result, analysis.declared, unit)),
    )


def about(result: ContrastResult, declared: DeclaredComparison, unit: Unit) -> Iterator[str]:
    """The verdict of a contrast, and each number that it rests on, as sentences."""
    yield verdict(result, declared, unit)
    test = result.test
    if test is not None:
        yield from _evidence(result, test, declared, unit)
    else:
        yield "Without two seeds that both conditions have, there is no interval and no test."
    yield from _left_out(result)
    if result.worst_case is not None:
        yield (
            "Whatever the missing runs would have given, the mean difference is "
            f"{unit.interval(result.worst_case.mean)}, and its interval within "
            f"{unit.interval(result.worst_case.interval)}."
        )


def verdict(result: ContrastResult, declared: DeclaredComparison, unit: Unit) -> str:
    """The verdict in one sentence."""
    test, name = result.test, result.contrast
    if test is None or result.undecided:
        return f"{name}: {result.verdict}: {result.undecided}."
    numbers = f"{unit.difference(test.difference)}, adjusted p = {_p(test.p_adjusted)}"
    if result.verdict in ("BETTER", "WORSE"):
        within = ", but within the margin" if result.equivalent else ""
        return f"{name}: {result.verdict}{within} ({numbers})."
    if result.verdict == "EQUIVALENT" and declared.margin is not None:
        size = unit.size(declared.margin)
        return f"{name}: EQUIVALENT within {size} ({unit.difference(test.difference)})."
    return f"{name}: NOT ENOUGH EVIDENCE ({numbers})."


def _evidence(
    result: ContrastResult, test: ContrastTest, declared: DeclaredComparison, unit: Unit
) -> Iterator[str]:
    sure = f"{100 * (1 - declared.alpha):g} %"
    seeds = _listed(test.seeds)
    kind = f"interval of {sure}"
    if declared.pooled:
        kind += " for all contrasts together,"
    elif declared.stop == "efficacy":
        kind += " at every look,"
    yield (
        f"These questions: {unit.difference(test.difference)} ({kind} "
        f"{unit.interval(test.interval)}) over {len(test.seeds)} seeds ({seeds})."
    )
    if result.new_questions is not None:
        yield (
            f"New questions of the same kind: interval of {sure} "
            f"{unit.interval(result.new_questions)}, from {result.questions:,} questions."
        )
    elif result.questions < 2 and declared.stop != "efficacy":
        yield "New questions: no interval, since the values of single questions are not known."
    if result.questions_left_out == 1:
        yield "1 question that only some runs have is left out."
    elif result.questions_left_out:
        yield f"{result.questions_left_out:,} questions that only some runs have are left out."
    correlation = "" if result.correlation is None else f"; correlation {result.correlation:.2f}"
    spread = "the paired difference scatters by"
    pooled = ", estimated from all conditions" if declared.pooled else ""
    yield f"Between seeds {spread} {unit.size(test.sd)} (standard deviation{pooled}{correlation})."
    if declared.stop != "efficacy":
        yield _sign_flips(result, len(test.seeds))
    yield from _equivalence(result, test, declared, unit)
    yield from _reach(result, test, declared, unit)


def _sign_flips(result: ContrastResult, seeds: int) -> str:
    if result.sign_flip_p is not None:
        return f"Exact sign flips: p = {_p(result.sign_flip_p)}."
    if seeds < SIGN_FLIP_SEEDS[0]:
        least = f"{2 / 2**seeds:g}"
        return f"Exact sign flips cannot reach 0.05 with {seeds} seeds: p is at least {least}."
    return f"Exact sign flips are computed for {SIGN_FLIP_SEEDS[-1]} seeds at most."


def _equivalence(
    result: ContrastResult, test: ContrastTest, declared: DeclaredComparison, unit: Unit
) -> Iterator[str]:
    if declared.margin is None or result.equivalent is None or result.undecided:
        return
    p = "" if declared.stop == "efficacy" else f" (adjusted p = {_p(test.p_equivalence or 0)})"
    shown = "is" if result.equivalent else "is not"
    yield f"Equivalence within {unit.size(declared.margin)} {shown} shown{p}."


def _reach(
    result: ContrastResult, test: ContrastTest, declared: DeclaredComparison, unit: Unit
) -> Iterator[str]:
    reach = result.reach
    if reach is None:
        return
    yield (
        f"With this spread, {len(test.seeds)} seeds find a difference of "
        f"{unit.size(reach.detectable)}, or show equivalence within {unit.size(reach.provable)}, "
        "in 80 % of campaigns."
    )
    if result.verdict != "NOT ENOUGH EVIDENCE" or result.undecided:
        return
    if reach.for_effect is not None:
        size = unit.size(abs(test.difference))
        yield f"Seeds that would find a difference of {size} in 80 %: {_range(reach.for_effect)}."
    if reach.for_margin is not None and declared.margin is not None:
        margin, needed = unit.size(declared.margin), _range(reach.for_margin)
        yield f"Seeds that would show equivalence within {margin} in 80 %: {needed}."


def _left_out(result: ContrastResult) -> Iterator[str]:
    runs = [run for seed in result.unpaired for run in seed.runs]
    if not runs:
        return
    named = [f"{run.name} ({run.status}{': ' * bool(run.reason)}{run.reason})" for run in runs]
    more = f"; and {len(named) - _LISTED} more" if len(named) > _LISTED else ""
    yield f"Not compared: {'; '.join(named[:_LISTED])}{more}."


def _range(needed: SeedsNeeded) -> str:
    if needed.low is None:
        return f"more than {MOST_SEEDS:,}"
    if needed.high is None:
        return f"{needed.low:,} to more than {MOST_SEEDS:,}"
    return f"{needed.low:,} to {needed.high:,}" if needed.high > needed.low else f"{needed.low:,}"


def _p(value: float) -> str:
    return "0.0001 or less" if value <= 1e-4 else f"{value:.4f}" if value < 0.01 else f"{value:.3f}"


def _listed(seeds: Sequence[int]) -> str:
    shown = ", ".join(map(str, seeds[:_LISTED]))
    return f"{shown}, …" if len(seeds) > _LISTED else shown
