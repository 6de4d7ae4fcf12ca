from dataclasses import dataclass
from queue import SimpleQueue

from retrain_campaign.events import Squeezed
from retrain_campaign.squeeze import analyse_beside, describe_analysis, note_of

PATIENCE_S = 60


@dataclass(frozen=True)
class Row:
    rank: int
    mean: float
    minimum: float


@dataclass(frozen=True)
class Analysis:
    """What `retrain_squeeze.analyze_adapter` returns, as far as a campaign reads it."""

    recommended_rank: int = 2
    source_rank: int = 4
    min_variance_retention: float = 0.95
    table: tuple[Row, ...] = (Row(1, 0.5, 0.25), Row(2, 0.96, 0.9), Row(4, 1.0, 1.0))


def test_the_note_has_the_recommendation():
    assert note_of(Analysis(), "final") == {
        "recommended_rank": 2,
        "source_rank": 4,
        "min_variance_retention": 0.95,
        "adapter": "final",
    }


def test_the_table():
    assert describe_analysis(Analysis(), "final").splitlines() == [
        "squeeze: final",
        "    rank     mean   lowest",
        "       1   50.00%   25.00%",
        "       2   96.00%   90.00%  <- recommended",
        "       4  100.00%  100.00%",
    ]


def test_what_comes_of_it_is_put_and_so_is_what_goes_wrong():
    events = SimpleQueue()
    analyse_beside(lambda: ({"recommended_rank": 2}, "text"), "a_s1", events.put)
    assert events.get(timeout=PATIENCE_S) == Squeezed("a_s1", {"recommended_rank": 2}, "text")
    analyse_beside(lambda: {}["missing"], "a_s1", events.put)
    assert events.get(timeout=PATIENCE_S) == Squeezed("a_s1", {}, "", "KeyError: 'missing'")
