"""The verdicts of a declared comparison, with the numbers that they rest on."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from retrain_backends.types import Floats
from retrain_campaign.statistics.declaration import (
    Contrast,
    DeclaredComparison,
    declaration_problems,
    evaluable,
)
from retrain_campaign.statistics.estimates import SIGN_FLIP_SEEDS, crossed, paired_t, sign_flip
from retrain_campaign.statistics.methods import ContrastTest, Interval, tested_family
from retrain_campaign.statistics.outcomes import Outcomes, Pair, RunOutcome, UnpairedSeed
from retrain_campaign.statistics.power import (
    Design,
    SeedsNeeded,
    detectable_effect,
    provable_margin,
    seeds_for_effect,
    seeds_for_margin,
)
from retrain_campaign.statistics.worst_case import WorstCase, worst_case

ContrastVerdict: TypeAlias = Literal["BETTER", "WORSE", "EQUIVALENT", "NOT ENOUGH EVIDENCE"]


@dataclass(frozen=True)
class Level:
    """The metric of a condition over its seeds; it describes the runs and decides nothing.

    Args:
      condition: its label.
      seeds: those that are done.
      mean: None without any.
      sd: standard deviation between seeds; None with fewer than two.
      without_outcome: its other runs.
    """

    condition: str
    seeds: tuple[int, ...]
    mean: float | None
    sd: float | None
    without_outcome: tuple[RunOutcome, ...]


@dataclass(frozen=True)
class Reach:
    """What these seeds can show with probability 80 %, in units of the metric.

    Args:
      detectable: the difference that is found.
      provable: the margin within which equivalence is shown if there is no difference.
      for_effect: seeds that would find a difference as large as the one observed; None if it is 0.
      for_margin: seeds that would show equivalence within the declared margin; None without one.
    """

    detectable: float
    provable: float
    for_effect: SeedsNeeded | None
    for_margin: SeedsNeeded | None


@dataclass(frozen=True)
class ContrastResult:
    """The verdict of a contrast.

    Args:
      contrast: treatment and control.
      verdict: "BETTER" and "WORSE" are about the treatment.
      undecided: why the data give no verdict, whatever the numbers are; empty if they do.
      test: the declared test; None if fewer than two seeds can be compared.
      equivalent: whether equivalence within the margin is shown, which a better treatment can be
        too; None without margin.
      unpaired: seeds that are not compared.
      correlation: of the two conditions over seeds; None if one of them does not vary.
      new_questions: interval of confidence 1 - alpha for other questions of the same kind, for this
        contrast alone; None without at least two questions that all runs share, and with e-values.
      questions: number of questions that all runs share; 0 if they are not known.
      questions_left_out: number of questions that only some of the runs have.
      sign_flip_p: exact p value by sign flips, for this contrast alone; None below 6 and above 20
        seeds, and with e-values.
      reach: None without spread, and with e-values.
      worst_case: with the seeds that failed; None if none did, without bounds of the metric, and
        with e-values.
    """

    contrast: Contrast
    verdict: ContrastVerdict
    undecided: str
    test: ContrastTest | None
    equivalent: bool | None
    unpaired: tuple[UnpairedSeed, ...]
    correlation: float | None
    new_questions: Interval | None
    questions: int
    questions_left_out: int
    sign_flip_p: float | None
    reach: Reach | None
    worst_case: WorstCase | None


@dataclass(frozen=True)
class Analysis:
    """The results of a declared comparison.

    Args:
      declared: the declaration, without what cannot be evaluated.
      levels: of all conditions.
      contrasts: of all declared contrasts that can be evaluated.
      notes: a sentence on each part of the declaration that cannot.
    """

    declared: DeclaredComparison
    levels: tuple[Level, ...]
    contrasts: tuple[ContrastResult, ...]
    notes: tuple[str, ...]


def analyse(declared: DeclaredComparison, outcomes: Outcomes) -> Analysis:
    """Evaluate a comparison as it was declared.

    Whatever is missing or cannot be evaluated is named, and the rest is evaluated.
    """
    used = evaluable(declared, outcomes.conditions)
    pairs = [outcomes.pair(contrast) for contrast in used.contrasts]
    undecided = [_undecided(used, pair) for pair in pairs]
    if used.pooled and any(undecided):  # each contrast rests on the seeds of all conditions
        undecided = [next(filter(None, undecided))] * len(undecided)
    decided = [not reason for reason in undecided]
    tests = tested_family(used, outcomes, pairs, decided) if pairs else []
    undecided = [
        reason or ("" if test else "fewer than 2 seeds that all conditions have")
        for reason, test in zip(undecided, tests, strict=True)
    ]
    return Analysis(
        declared=used,
        levels=tuple(_level(condition, outcomes) for condition in outcomes.conditions),
        contrasts=tuple(
            _result(used, pair, test, reason)
            for pair, test, reason in zip(pairs, tests, undecided, strict=True)
        ),
        notes=declaration_problems(declared, outcomes.conditions),
    )


def _undecided(declared: DeclaredComparison, pair: Pair) -> str:
    """Why a contrast gets no verdict; empty if it does."""
    waiting = sum(seed.pending for seed in pair.unpaired)
    stopped = any(run.status == "stopped" for seed in pair.unpaired for run in seed.runs)
    count = len(pair.seeds)
    if waiting and declared.stop != "efficacy":
        return (
            f"{waiting} of {count + len(pair.unpaired)} seeds are still to be done, and a verdict "
            "at each look would raise the rate of false alarms"
        )
    if stopped and declared.stop == "futility":
        return f"stopped for futility after {count} seeds"
    if count < 2:
        return f"{count or 'no'} seed{'s' * (count != 1)} in common, and a spread needs 2 or more"
    if not pair.same_questions:
        return "the runs have no question in common"
    if not declared.pooled and not paired_t(pair.differences).se > 0:
        return f"the difference is the same in all {count} seeds, so its spread cannot be estimated"
    return ""


def _result(
    declared: DeclaredComparison, pair: Pair, test: ContrastTest | None, undecided: str
) -> ContrastResult:
    equivalent = None
    if declared.margin is not None:
        p_equivalence = None if test is None or undecided else test.p_equivalence
        equivalent = p_equivalence is not None and p_equivalence <= declared.alpha
    questions = 0 if pair.by_question is None else pair.by_question.shape[-1]
    seeds = len(pair.seeds)
    fixed = declared.stop != "efficacy"  # else only e-values are valid at each look
    by_question = pair.by_question if fixed and questions > 1 and seeds > 1 else None
    flips = fixed and seeds in SIGN_FLIP_SEEDS
    return ContrastResult(
        contrast=pair.contrast,
        verdict=_verdict(declared, test, equivalent, undecided),
        undecided=undecided,
        test=test,
        equivalent=equivalent,
        unpaired=pair.unpaired,
        correlation=_correlation(pair),
        new_questions=None if by_question is None else _limits(by_question, declared.alpha),
        questions=questions,
        questions_left_out=pair.questions_left_out,
        sign_flip_p=float(sign_flip(pair.differences)) if flips else None,
        reach=_reach(declared, test),
        worst_case=_worst_case(declared, pair) if fixed else None,
    )


def _verdict(
    declared: DeclaredComparison,
    test: ContrastTest | None,
    equivalent: bool | None,
    undecided: str,
) -> ContrastVerdict:
    if test is None or undecided:
        return "NOT ENOUGH EVIDENCE"
    if test.p_adjusted <= declared.alpha:
        return "BETTER" if test.difference > 0 else "WORSE"
    return "EQUIVALENT" if equivalent else "NOT ENOUGH EVIDENCE"


def _level(condition: str, outcomes: Outcomes) -> Level:
    runs = outcomes.of(condition)
    seeds, values = outcomes.metrics([condition])
    return Level(
        condition=condition,
        seeds=seeds,
        mean=float(values.mean()) if seeds else None,
        sd=float(values.std(ddof=1)) if len(seeds) > 1 else None,
        without_outcome=tuple(run for run in runs if run.status != "done"),
    )


def _correlation(pair: Pair) -> float | None:
    both = np.stack([pair.treatment, pair.control])
    if len(pair.seeds) < 3 or not (both.std(axis=1) > 0).all():
        return None
    return float(np.atleast_2d(np.corrcoef(both))[0, 1])


def _limits(by_question: Floats, alpha: float) -> Interval:
    low, high = crossed(by_question).interval(alpha)
    return float(low), float(high)


def _reach(declared: DeclaredComparison, test: ContrastTest | None) -> Reach | None:
    if test is None or not test.sd or declared.stop == "efficacy":
        return None
    count = len(declared.contrasts)
    design = Design(len(test.seeds), count, declared.pooled, declared.alpha)
    margin = declared.margin
    return Reach(
        detectable=detectable_effect(design) * test.sd,
        provable=provable_margin(design) * test.sd,
        for_effect=(
            seeds_for_effect(test.difference, test.sd, design) if test.difference else None
        ),
        for_margin=None if margin is None else seeds_for_margin(margin, test.sd, design),
    )


def _worst_case(declared: DeclaredComparison, pair: Pair) -> WorstCase | None:
    bounds = [seed.bounds for seed in pair.unpaired if seed.failed]
    known = [limits for limits in bounds if limits is not None]
    if not known or len(known) < len(bounds):
        return None
    return worst_case(pair.differences, known, declared.alpha / len(declared.contrasts))
