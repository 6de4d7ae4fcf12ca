import numpy as np
import pytest

from retrain_backends.engines.canary import compare
from retrain_backends.types import Completion

ROWS = [Completion(np.arange(8), np.zeros(8), "length")] * 2


class Shifted:
    """A policy whose versions give log-probs at these distances from the server's, nats."""

    def __init__(self, newest, earlier, base):
        distances = {"newest": newest, "base": base, "earlier": earlier}
        self.missed = {name: np.full(16, -distance) for name, distance in distances.items()}

    def scores(self, prompt_T, rows):
        assert [len(row) for row in rows] == [8, 8]
        return self.missed


@pytest.mark.parametrize(
    ("newest", "earlier", "base", "version"),
    [
        (0.0, 0.1, 0.5, "newest"),
        (1e-7, 3e-7, 3e-7, None),  # rounding of float32 tells nothing
        (0.1, 0.0, 0.5, "earlier"),
        (0.5, 0.4, 0.0, "base"),
        (0.1, 0.0, 0.0, "base"),  # a new adapter changes nothing, so both are the same
        (0.02, 0.02, 0.02, None),  # a server in lower precision, before the first update
        (0.05, 0.03, 0.2, None),  # ... after a small one
        (0.03, 0.2, 0.4, "newest"),
    ],
)
def test_the_version_that_explains_the_log_probs(newest, earlier, base, version):
    found = compare(Shifted(newest, earlier, base), np.array([1]), ROWS)
    assert found.version == version
    assert found.distance == pytest.approx(min(newest, earlier, base))
