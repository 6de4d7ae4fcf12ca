import numpy as np
import pytest

from retrain_backends.errors import DataError
from retrain_campaign.statistics.declaration import Contrast
from retrain_campaign.statistics.outcomes import Outcomes, RunOutcome

CONTRAST = Contrast("b", "a")


def answers(**values):
    return {"by_question": values}


def test_seeds_are_matched_in_the_order_of_the_plan():
    runs = [RunOutcome("a", seed, metric=seed / 10) for seed in (3, 1, 2)]
    runs += [RunOutcome("b", seed, metric=seed / 5) for seed in (1, 2, 3)]
    outcomes = Outcomes(runs)
    pair = outcomes.pair(CONTRAST)
    assert outcomes.conditions == ("a", "b")
    assert pair.seeds == (3, 1, 2)
    assert pair.differences == pytest.approx([0.3, 0.1, 0.2])
    assert (pair.unpaired, pair.by_question, pair.same_questions) == ((), None, True)


def test_a_seed_without_both_runs_is_named_with_its_bounds():
    runs = [
        RunOutcome("a", 1, metric=0.5),
        RunOutcome("b", 1, status="failed", reason="out of memory"),
        RunOutcome("a", 2, status="pending"),
        RunOutcome("b", 2, status="failed"),
        RunOutcome("b", 3, metric=0.75),
    ]
    pair = Outcomes(runs).pair(CONTRAST)
    assert pair.seeds == ()
    found = [(seed.seed, seed.bounds, seed.failed, seed.pending) for seed in pair.unpaired]
    assert found == [
        (1, (-0.5, 0.5), True, False),
        (2, (-1.0, 1.0), False, True),
        (3, (-0.25, 0.75), True, False),
    ]
    assert [run.reason for seed in pair.unpaired for run in seed.runs] == [
        "out of memory",
        "",
        "",
        "not planned",
    ]
    assert [seed.bounds for seed in Outcomes(runs, bounds=None).pair(CONTRAST).unpaired] == [
        None
    ] * 3


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        ({"metric": float("nan")}, "its metric is nan, not a finite number"),
        ({"metric": float("inf")}, "its metric is inf, not a finite number"),
        ({}, "it has no metric"),
        (answers(q=float("nan")), "none of its questions has a value"),
        (answers(), "none of its questions has a value"),
    ],
)
def test_a_run_without_a_number_has_failed(outcome, reason):
    (run,) = Outcomes([RunOutcome("a", 1, **outcome)]).runs
    assert (run.status, run.reason, run.metric, run.by_question) == ("failed", reason, None, None)


def test_only_questions_that_all_runs_have_are_compared():
    runs = [
        RunOutcome("a", 1, **answers(p=0.0, q=0.5, r=1.0)),
        RunOutcome("a", 2, **answers(q=0.0, p=0.0, r=float("nan"))),
        RunOutcome("b", 1, **answers(p=1.0, q=0.5, s=0.0)),
        RunOutcome("b", 2, **answers(q=0.5, p=0.25)),
    ]
    pair = Outcomes(runs).pair(CONTRAST)
    assert pair.by_question.tolist() == [[1.0, 0.0], [0.25, 0.5]]
    assert pair.differences == pytest.approx([0.5, 0.375])
    assert pair.questions_left_out == 2


def test_without_a_common_question_metrics_are_of_different_things():
    runs = [RunOutcome("a", 1, **answers(p=0.0)), RunOutcome("b", 1, **answers(q=1.0))]
    assert not Outcomes(runs).pair(CONTRAST).same_questions


def test_metrics_of_several_conditions_are_of_the_seeds_that_all_have():
    runs = [RunOutcome(label, seed, metric=seed / 10) for label in "abc" for seed in range(4)]
    runs[5] = RunOutcome("b", 1, status="failed")
    seeds, values = Outcomes(runs).metrics(["a", "b", "c"])
    assert seeds == (0, 2, 3)
    assert np.array_equal(values, [[0.0, 0.2, 0.3]] * 3)
    seeds, values = Outcomes(runs[5:6]).metrics(["b"])
    assert (seeds, values.shape) == ((), (1, 0))


def test_two_outcomes_of_one_run_are_refused():
    with pytest.raises(DataError, match=r"^condition `a` has two outcomes for seed 1$"):
        Outcomes([RunOutcome("a", 1, metric=0.5), RunOutcome("a", 1, metric=0.25)])


def test_a_metric_or_questions():
    with pytest.raises(ValueError, match="not both"):
        RunOutcome("a", 1, metric=0.5, by_question={"q": 0.5})
