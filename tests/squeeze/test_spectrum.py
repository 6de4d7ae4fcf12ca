import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrain_squeeze.spectrum import (
    best_mixing,
    mixed_a,
    mixed_b,
    retained_variance,
    squared_singular_values,
    squares_of_core,
    triangles,
)


def pair(rows, columns, rank, seed=0, decay=0.7):
    rng = np.random.default_rng(seed)
    b = rng.standard_normal((rows, rank)) * decay ** np.arange(rank)
    return rng.standard_normal((rank, columns)), b


def best(a, b, rank):
    """The best approximation of `b @ a`, from the SVD of the whole product."""
    u, s, vt = np.linalg.svd(b @ a, full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ vt[:rank]


def singular_values(a, b):
    values = np.linalg.svd(b @ a, compute_uv=False)[: len(a)]
    return np.pad(values, (0, len(a) - len(values)))


def factors(a, b, rank):
    mix_a, mix_b = best_mixing(*triangles(a, b), rank)
    new_a, new_b = np.full((rank, a.shape[1]), np.nan), np.full((len(b), rank), np.nan)
    for column, block in mixed_a(a, mix_a):
        new_a[:, column : column + block.shape[1]] = block
    for row, block in mixed_b(b, mix_b):
        new_b[row : row + len(block)] = block
    return new_a, new_b


SHAPES = [
    (2500, 300, 8),
    (7, 9, 7),
    (20, 3, 8),
    (3, 20, 8),
    (1, 1, 1),
    (2100, 150, 130),
    (4500, 20, 600),
]


@pytest.mark.parametrize(("rows", "columns", "rank"), SHAPES)
def test_singular_values_are_those_of_the_product(rows, columns, rank):
    a, b = pair(rows, columns, rank, decay=0.97)
    expected = singular_values(a, b) ** 2
    atol = 1e-12 * expected[0]
    np.testing.assert_allclose(squared_singular_values(a, b), expected, rtol=1e-9, atol=atol)
    np.testing.assert_allclose(
        squares_of_core(*triangles(a, b)), expected, rtol=1e-9, atol=1e-3 * atol
    )


@pytest.mark.parametrize(("rows", "columns", "rank"), SHAPES)
def test_triangles_have_the_same_products(rows, columns, rank):
    a, b = pair(rows, columns, rank)
    r_a, r_b = triangles(a, b)
    np.testing.assert_allclose(r_a.T @ r_a, a @ a.T, atol=1e-9)
    np.testing.assert_allclose(r_b.T @ r_b, b.T @ b, atol=1e-9)


def test_triangles_of_a_very_tall_factor_are_as_small():
    a, b = pair(60_000, 20_000, 8)
    r_a, r_b = triangles(a, b)
    assert (r_a.shape, r_b.shape) == ((8, 8), (8, 8))
    np.testing.assert_allclose(r_a.T @ r_a, a @ a.T, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(r_b.T @ r_b, b.T @ b, rtol=1e-9, atol=1e-9)


def cancelling(size):
    """An update of `size` under two factors of about 1 that cancel each other otherwise."""
    rng = np.random.default_rng(3)
    a, q = rng.standard_normal((2, 40)), np.linalg.qr(rng.standard_normal((30, 2)))[0]
    small = size * rng.standard_normal((2, 40))
    return np.concatenate([a, -a + small]), np.concatenate([q, q], axis=1)


@pytest.mark.parametrize("size", [1e-2, 1e-4, 1e-6, 1e-8])
def test_retained_variance_is_exact_where_the_factors_cancel(size):
    a, b = cancelling(size)
    expected = retained_variance(singular_values(a, b) ** 2)
    got = retained_variance(squared_singular_values(a, b))
    np.testing.assert_allclose(got, expected, atol=1e-6 if size < 1e-7 else 1e-9)


def test_an_update_of_rounding_errors_is_zero():
    a, b = cancelling(0.0)
    assert squared_singular_values(a, b).tolist() == [0.0] * 4


@pytest.mark.parametrize("zero", ["a", "b"])
def test_an_update_of_zero_retains_everything_at_rank_1(zero):
    a, b = pair(6, 5, 3)
    (a if zero == "a" else b)[:] = 0
    squares = squared_singular_values(a, b)
    assert squares.tolist() == [0.0] * 3
    assert retained_variance(squares).tolist() == [1.0] * 3
    new_a, new_b = factors(a, b, 2)
    assert not new_a.any()
    assert not new_b.any()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("where", [0, 1])
def test_what_is_not_finite_stays_so(bad, where):
    for position in [(0, 0), (2, 2)]:
        both = pair(6, 5, 3)
        both[where][position] = bad
        assert np.isnan(squared_singular_values(*both)).all()
        with np.errstate(invalid="ignore"):
            assert not all(np.isfinite(r).all() for r in triangles(*both))


@pytest.mark.parametrize(("rows", "columns", "rank"), SHAPES)
def test_factors_make_the_best_approximation(rows, columns, rank):
    a, b = pair(rows, columns, rank)
    size = np.linalg.norm(b @ a)
    for k in {1, (rank + 1) // 2, rank}:
        new_a, new_b = factors(a, b, k)
        assert (new_a.shape, new_b.shape) == ((k, columns), (rows, k))
        assert np.linalg.norm(new_b @ new_a - best(a, b, k)) <= 1e-12 * size
        np.testing.assert_allclose(new_a @ new_a.T, new_b.T @ new_b, atol=1e-9 * size)


def test_directions_without_an_update_get_zero():
    a, b = pair(12, 10, 4)
    b[:, 2:] = 0
    new_a, new_b = factors(a, b, 3)
    assert not new_a[2].any()
    assert not new_b[:, 2].any()
    np.testing.assert_allclose(new_b @ new_a, b @ a, atol=1e-12)


shapes = st.tuples(*3 * [st.integers(1, 12)], st.integers(0, 999), st.floats(0.05, 1))


@given(shapes)
def test_retained_variance_never_falls_and_ends_at_1(shape):
    retained = retained_variance(squared_singular_values(*pair(*shape)))
    assert (np.diff(retained) >= 0).all()
    assert 0 < retained[0] <= retained[-1] == 1


@given(shapes, st.floats(1e-6, 1e6))
def test_scaling_changes_no_curve(shape, factor):
    a, b = pair(*shape)
    plain = retained_variance(squared_singular_values(a, b))
    scaled = retained_variance(squared_singular_values(a * factor, b))
    np.testing.assert_allclose(scaled, plain, atol=1e-9)


@given(shapes)
def test_all_ranks_give_the_update_back(shape):
    a, b = pair(*shape)
    new_a, new_b = factors(a, b, len(a))
    np.testing.assert_allclose(new_b @ new_a, b @ a, atol=1e-12 * np.linalg.norm(b @ a))
