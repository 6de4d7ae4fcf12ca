import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from retrain_campaign.statistics.analysis import analyse
from retrain_campaign.statistics.declaration import Contrast, DeclaredComparison, against_control
from retrain_campaign.statistics.outcomes import Outcomes, RunOutcome

NOISE = np.array([0.012, -0.008, 0.003, -0.015, 0.009, 0.001, -0.004, 0.006])
CONTROL = 0.5 + np.array([0.03, -0.02, 0.0, 0.01, -0.04, 0.02, 0.05, -0.01])


def runs_of(condition, metrics, **statuses):
    """A run for each metric, with seeds from 0; `s3="failed"` replaces the outcome of seed 3."""
    return [
        RunOutcome(condition, seed, status=statuses[f"s{seed}"])
        if f"s{seed}" in statuses
        else RunOutcome(condition, seed, metric=float(value))
        for seed, value in enumerate(metrics)
    ]


def compared(*effects, seeds=8, **declared):
    """The results of treatments with these effects against a control."""
    runs = runs_of("control", CONTROL[:seeds])
    for index, effect in enumerate(effects):
        runs += runs_of(f"t{index}", (CONTROL + effect + np.roll(NOISE, 3 * index))[:seeds])
    outcomes = Outcomes(runs)
    return analyse(DeclaredComparison(against_control(outcomes.conditions), **declared), outcomes)


def verdicts(analysis):
    return [result.verdict for result in analysis.contrasts]


@pytest.mark.parametrize("kind", [{}, {"pooled": True}, {"stop": "efficacy"}])
def test_each_verdict_where_it_belongs(kind):
    found = compared(0.05, -0.05, 0.0, **kind, margin=0.03)
    assert verdicts(found) == ["BETTER", "WORSE", "EQUIVALENT"]
    assert [result.equivalent for result in found.contrasts] == [False, False, True]
    found = compared(0.05, -0.05, 0.0, **kind)
    assert verdicts(found) == ["BETTER", "WORSE", "NOT ENOUGH EVIDENCE"]
    assert [result.equivalent for result in found.contrasts] == [None, None, None]


def test_better_can_be_within_the_margin():
    (result,) = compared(0.02, margin=0.1).contrasts
    assert (result.verdict, result.equivalent) == ("BETTER", True)


def test_the_numbers_are_those_of_the_paired_test():
    (result,) = compared(0.02).contrasts
    expected = stats.ttest_1samp(0.02 + NOISE, 0)
    limits = expected.confidence_interval()
    assert result.test.p == pytest.approx(expected.pvalue)
    assert result.test.interval == pytest.approx((limits.low, limits.high))
    assert result.test.sd == pytest.approx(NOISE.std(ddof=1))
    assert result.correlation == pytest.approx(np.corrcoef(CONTROL, CONTROL + NOISE)[0][1])
    assert (result.new_questions, result.questions) == (None, 0)


def test_p_values_are_adjusted_over_the_declared_contrasts_only():
    (alone,) = compared(0.012).contrasts
    first, *_ = compared(0.012, 0.0, 0.0).contrasts
    assert alone.verdict == "BETTER"
    assert first.test.p == pytest.approx(alone.test.p)
    assert first.test.p_adjusted == pytest.approx(3 * alone.test.p)
    assert first.test.simultaneous[0] < first.test.interval[0]


def test_levels_describe_each_condition():
    level = compared(0.05).levels[0]
    assert (level.condition, level.seeds) == ("control", tuple(range(8)))
    assert (level.mean, level.sd) == pytest.approx((CONTROL.mean(), CONTROL.std(ddof=1)))


@pytest.mark.parametrize(
    ("seeds", "undecided"),
    [(0, ""), (1, "1 seed in common, and a spread needs 2 or more"), (2, "")],
)
def test_two_seeds_or_fewer(seeds, undecided):
    found = compared(0.05, seeds=seeds)
    if not seeds:
        assert found.contrasts == ()
        return
    (result,) = found.contrasts
    assert (result.verdict, result.undecided) == ("NOT ENOUGH EVIDENCE", undecided)
    assert (result.test is None) == (seeds < 2)
    assert found.levels[0].mean is not None


def test_one_condition_has_a_level_and_a_note():
    found = compared()
    assert (found.contrasts, len(found.notes)) == ((), 1)
    assert found.levels[0].mean == pytest.approx(CONTROL.mean())


def test_what_cannot_be_evaluated_is_noted_and_the_rest_evaluated():
    runs = runs_of("a", CONTROL) + runs_of("b", CONTROL + 0.05 + NOISE)
    declared = DeclaredComparison((Contrast("c", "a"), Contrast("b", "a")), margin=0.0)
    found = analyse(declared, Outcomes(runs))
    assert verdicts(found) == ["BETTER"]
    assert [note.split(":")[0] for note in found.notes] == ["contrast `c vs a`", "margin is 0"]


@pytest.mark.parametrize("pooled", [False, True])
def test_a_campaign_that_is_still_running_has_no_verdict_yet(pooled):
    runs = runs_of("a", CONTROL) + runs_of("b", CONTROL + 0.05 + NOISE, s6="pending", s7="pending")
    contrasts = against_control(["a", "b"])
    (result,) = analyse(DeclaredComparison(contrasts, pooled=pooled), Outcomes(runs)).contrasts
    assert result.verdict == "NOT ENOUGH EVIDENCE"
    assert result.undecided.startswith("2 of 8 seeds are still to be done")
    assert result.test.interval[0] > 0
    (result,) = analyse(DeclaredComparison(contrasts, stop="efficacy"), Outcomes(runs)).contrasts
    assert result.verdict == "BETTER"


def test_a_stopped_treatment_is_neither_better_nor_equivalent():
    stopped = {f"s{seed}": "stopped" for seed in range(3, 8)}
    runs = runs_of("a", CONTROL) + runs_of("b", CONTROL - 0.05 + NOISE / 9, **stopped)
    declared = DeclaredComparison(against_control(["a", "b"]), margin=0.2, stop="futility")
    (result,) = analyse(declared, Outcomes(runs)).contrasts
    assert (result.verdict, result.equivalent) == ("NOT ENOUGH EVIDENCE", False)
    assert result.undecided == "stopped for futility after 3 seeds"
    assert result.worst_case is None


def test_failed_runs_are_named_and_bounded():
    runs = runs_of("a", CONTROL, s2="failed") + runs_of("b", CONTROL + 0.05 + NOISE, s5="failed")
    declared = DeclaredComparison(against_control(["a", "b"]))
    (result,) = analyse(declared, Outcomes(runs)).contrasts
    assert result.verdict == "BETTER"
    assert [seed.seed for seed in result.unpaired] == [2, 5]
    assert result.worst_case.mean[0] < 0 < result.worst_case.mean[1]
    (unbounded,) = analyse(declared, Outcomes(runs, bounds=None)).contrasts
    assert unbounded.worst_case is None


def test_a_difference_without_spread_is_no_certainty():
    runs = runs_of("a", [0.25, 0.5, 0.75]) + runs_of("b", [0.5, 0.75, 1.0])
    declared = DeclaredComparison(against_control(["a", "b"]), margin=0.5)
    (result,) = analyse(declared, Outcomes(runs)).contrasts
    assert (result.verdict, result.equivalent, result.reach) == ("NOT ENOUGH EVIDENCE", False, None)
    assert result.undecided.startswith("the difference is the same in all 3 seeds")


def test_runs_without_a_common_question_are_not_compared():
    runs = [RunOutcome("a", seed, by_question={"p": seed / 5}) for seed in range(4)]
    runs += [RunOutcome("b", seed, by_question={"q": 0.5}) for seed in range(4)]
    (result,) = analyse(DeclaredComparison(against_control(["a", "b"])), Outcomes(runs)).contrasts
    assert result.undecided == "the runs have no question in common"


def test_pooled_contrasts_rest_on_the_seeds_that_all_conditions_have():
    runs = runs_of("a", CONTROL) + runs_of("b", CONTROL + NOISE, s1="failed")
    runs += runs_of("c", CONTROL - NOISE, s4="failed")
    declared = DeclaredComparison(against_control("abc"), pooled=True)
    found = analyse(declared, Outcomes(runs))
    assert [result.test.seeds for result in found.contrasts] == [(0, 2, 3, 5, 6, 7)] * 2
    few = runs_of("a", CONTROL[:2], s0="failed") + runs_of("b", CONTROL[:2])
    few += runs_of("c", CONTROL[:2])
    found = analyse(declared, Outcomes(few))
    assert {result.undecided for result in found.contrasts} == {
        "1 seed in common, and a spread needs 2 or more"
    }


def questions(condition, table):
    return [
        RunOutcome(condition, seed, by_question={f"q{i}": float(v) for i, v in enumerate(row)})
        for seed, row in enumerate(table)
    ]


def test_new_questions_have_a_wider_interval_if_the_effect_depends_on_the_question():
    rng = np.random.default_rng(5)
    base = rng.uniform(0.2, 0.4, (6, 30))
    treated = base + rng.uniform(0, 0.5, 30) + rng.normal(0, 0.02, (6, 1))
    outcomes = Outcomes(questions("a", base) + questions("b", treated))
    (result,) = analyse(DeclaredComparison(against_control(["a", "b"])), outcomes).contrasts
    low, high = result.test.interval
    assert result.new_questions[0] < low < high < result.new_questions[1]
    assert result.questions == 30


PERCENT = st.lists(st.integers(0, 100).map(lambda value: value / 100), min_size=7, max_size=7)
MIRROR = {"BETTER": "WORSE", "WORSE": "BETTER"}


@settings(deadline=None, max_examples=25)
@given(PERCENT, PERCENT, st.sampled_from([{}, {"pooled": True}, {"stop": "efficacy"}]))
def test_swapping_treatment_and_control_mirrors_the_result(first, second, kind):
    outcomes = Outcomes(runs_of("a", first) + runs_of("b", second))
    (found,), (swapped,) = (
        analyse(DeclaredComparison((contrast,), **kind), outcomes).contrasts
        for contrast in (Contrast("a", "b"), Contrast("b", "a"))
    )
    assert swapped.verdict == MIRROR.get(found.verdict, found.verdict)
    assert swapped.test.p_adjusted == pytest.approx(found.test.p_adjusted)
    assert swapped.test.interval == pytest.approx([-limit for limit in found.test.interval[::-1]])


@settings(deadline=None, max_examples=25)
@given(st.permutations(range(7)), st.sampled_from([{}, {"pooled": True}]))
def test_the_order_of_seeds_is_irrelevant_to_a_verdict(order, kind):
    runs = [runs_of("a", CONTROL[:7]), runs_of("b", CONTROL[:7] + 0.01 + NOISE[:7])]
    declared = DeclaredComparison(against_control(["a", "b"]), **kind)
    first, second = (
        analyse(declared, Outcomes([run for half in chosen for run in half])).contrasts[0].test
        for chosen in (runs, [[half[seed] for seed in order] for half in runs])
    )
    assert second.p_adjusted == pytest.approx(first.p_adjusted)
    assert second.interval == pytest.approx(first.interval)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [{}, {"pooled": True}, {"stop": "efficacy"}])
def test_equal_conditions_are_told_apart_in_5_percent_of_campaigns_at_most(kind):
    rng = np.random.default_rng(7)
    found = []
    for _ in range(200):
        runs = [run for label in "abcd" for run in runs_of(label, rng.normal(0.5, 0.03, 5))]
        found += [
            set(
                verdicts(
                    analyse(DeclaredComparison(against_control("abcd"), **kind), Outcomes(runs))
                )
            )
        ]
    alarms = sum(bool(kinds & {"BETTER", "WORSE"}) for kinds in found)
    assert alarms <= 200 * 0.05 + 2.6 * np.sqrt(200 * 0.05 * 0.95)
