import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrain_core import offsets_from_lengths, segment_mean, segment_sum, spread


@given(lengths=st.lists(st.integers(0, 4), max_size=8))
def test_sums_means_and_spread_agree_with_a_loop(lengths):
    offsets = offsets_from_lengths(lengths)
    values = np.arange(1.0, offsets[-1] + 1)
    parts = np.split(values, offsets[1:-1]) if lengths else []
    np.testing.assert_allclose(segment_sum(values, offsets), [part.sum() for part in parts])
    means = [part.mean() if part.size else 0.0 for part in parts]
    np.testing.assert_allclose(segment_mean(values, offsets), means)
    numbers = np.arange(float(len(lengths)))
    expected = [i for i, length in enumerate(lengths) for _ in range(length)]
    np.testing.assert_array_equal(spread(numbers, offsets), expected)


def test_negative_lengths_are_refused():
    with pytest.raises(ValueError, match="lengths must be >= 0, got -1"):
        offsets_from_lengths([2, -1])
