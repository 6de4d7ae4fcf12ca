import pytest


def test_what_seeds_can_show(retrain):
    code, page, errors = retrain("statistics")
    assert (code, errors) == (0, "")
    rows = [line.split() for line in page.splitlines()]
    assert ["3", "seeds", "3.26", "2.66"] in rows
    assert ["8", "seeds", "1.16", "1.15"] in rows


def test_more_contrasts_need_more(retrain):
    code, page, _ = retrain("statistics", "--contrasts", "4")
    assert code == 0
    assert ["5", "seeds", "2.48", "2.32", "1.61", "1.71"] in [
        row.split() for row in page.splitlines()
    ]


def test_no_contrasts_show_nothing(retrain):
    code, output, errors = retrain("statistics", "--contrasts", "0")
    assert (code, output) == (2, "")
    assert errors.startswith("error: invalid value for '--contrasts': 0 is not in the range x>=1")


@pytest.mark.slow
def test_the_error_rates_hold(retrain):
    code, page, _ = retrain("statistics", "--selfcheck", "--quick")
    assert code == 0
    assert "1,000 simulated campaigns" in page
    assert "FAILS" not in page
    assert sum(line.endswith("holds") for line in map(str.rstrip, page.splitlines())) == 12
