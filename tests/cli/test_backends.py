from retrain_backends.plugins import names
from retrain_backends.train.checks.overview import overview


def test_every_backend_and_engine_has_a_row(retrain):
    code, shown, errors = retrain("backends")
    assert (code, errors) == (0, "")
    found = overview()
    assert [row["backend"] for row in found.backends] == names("backend")
    assert sorted(row["engine"] for row in found.engines) == names("engine")
    assert all(name in shown for name in names("engine"))
    assert all(len({tuple(row) for row in rows}) == 1 for rows in vars(found).values())
