import numpy as np
import pytest

from retrain_campaign.statistics.analysis import analyse
from retrain_campaign.statistics.declaration import DeclaredComparison, against_control
from retrain_campaign.statistics.outcomes import Outcomes, RunOutcome
from retrain_campaign.statistics.wording import sentences

NOISE = (0.012, -0.008, 0.003, -0.015, 0.009, 0.001, -0.004, 0.002)


def said(effect, seeds=8, points=True, failed=(), **settings):
    runs = [RunOutcome("grpo", seed, metric=0.5) for seed in range(seeds)]
    runs += [
        RunOutcome("maxrl", seed, status="failed", reason="out of memory")
        if seed in failed
        else RunOutcome("maxrl", seed, metric=0.5 + effect + NOISE[seed])
        for seed in range(seeds)
    ]
    declared = DeclaredComparison(against_control(["grpo", "maxrl"]), **settings)
    return sentences(analyse(declared, Outcomes(runs)), points)


def test_a_result_in_sentences():
    assert said(0.05) == (
        "maxrl vs grpo: BETTER (+5.0 points, adjusted p = 0.0001 or less).",
        "These questions: +5.0 points (interval of 95 % +4.3 to +5.7 points) over 8 seeds "
        "(0, 1, 2, 3, 4, 5, 6, 7).",
        "New questions: no interval, since the values of single questions are not known.",
        "Between seeds the paired difference scatters by 0.9 points (standard deviation).",
        "Exact sign flips: p = 0.0078.",
        "With this spread, 8 seeds find a difference of 1.0 points, or show equivalence within 1.0 "
        "points, in 80 % of campaigns.",
    )


@pytest.mark.parametrize(
    ("arguments", "verdict"),
    [
        ({"effect": -0.05}, "maxrl vs grpo: WORSE (-5.0 points, adjusted p = 0.0001 or less)."),
        ({"effect": 0.001}, "maxrl vs grpo: NOT ENOUGH EVIDENCE (+0.1 points, adjusted p = "),
        (
            {"effect": 0.001, "margin": 0.02},
            "maxrl vs grpo: EQUIVALENT within 2.0 points (+0.1 points).",
        ),
        (
            {"effect": 0.05, "margin": 0.1},
            "maxrl vs grpo: BETTER, but within the margin (+5.0 points,",
        ),
        ({"effect": 0.05, "points": False}, "maxrl vs grpo: BETTER (+0.05, adjusted p ="),
        (
            {"effect": 0.05, "seeds": 1},
            "maxrl vs grpo: NOT ENOUGH EVIDENCE: 1 seed in common, and a",
        ),
    ],
)
def test_verdicts(arguments, verdict):
    assert said(**arguments)[0].startswith(verdict)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            {"effect": 0.0, "seeds": 4},
            "Exact sign flips cannot reach 0.05 with 4 seeds: p is at least",
        ),
        (
            {"effect": 0.0006},
            "Seeds that would find a difference of 0.1 points in 80 %: ",
        ),
        (
            {"effect": 0.004, "seeds": 5, "margin": 0.005},
            "Seeds that would show equivalence within 0.5 points in 80 %: ",
        ),
        ({"effect": 0.0, "margin": 0.02}, "Equivalence within 2.0 points is shown (adjusted p = "),
        ({"effect": 0.05, "failed": (1,)}, "Not compared: maxrl, seed 1 (failed: out of memory)."),
        ({"effect": 0.05, "failed": (1,)}, "Whatever the missing runs would have given, the mean"),
        (
            {"effect": 0.05, "pooled": True},
            "These questions: +5.0 points (interval of 95 % for all",
        ),
        (
            {"effect": 0.05, "stop": "efficacy"},
            "These questions: +5.0 points (interval of 95 % at ev",
        ),
        ({"effect": 0.05, "margin": 0.0}, "margin is 0: no data can show a difference"),
        ({"effect": 0.05, "seeds": 1}, "Without two seeds that both conditions have, there is no"),
    ],
)
def test_what_a_verdict_rests_on(arguments, sentence):
    assert [line for line in said(**arguments) if line.startswith(sentence)]


def test_new_questions_have_their_own_sentence():
    table = np.random.default_rng(1).uniform(size=(2, 3, 5))
    runs = [
        RunOutcome(condition, seed, by_question={f"q{i}": float(v) for i, v in enumerate(values)})
        for condition, rows in zip("ab", table, strict=True)
        for seed, values in enumerate(rows)
    ]
    runs[0] = RunOutcome("a", 0, by_question={"other": 1.0, **(runs[0].by_question or {})})
    lines = sentences(analyse(DeclaredComparison(against_control("ab")), Outcomes(runs)))
    assert "New questions of the same kind: interval of 95 % " in lines[2]
    assert lines[3] == "1 question that only some runs have is left out."
