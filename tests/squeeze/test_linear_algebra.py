import sys
import time
from importlib.util import find_spec

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from retrain_squeeze import MissingExtraError, SqueezeConfigError, analyze_adapter
from retrain_squeeze.linear_algebra import for_each, linear_algebra_for

SHAPES = {"a.q": (60, 50), "b.q": (40, 3), "c.q": (2, 90)}


def blas_threads():
    return {found["num_threads"] for found in threadpool_info() if found["user_api"] == "blas"}


def test_results_come_in_order_and_one_thread_is_left_to_each_worker():
    seen = []
    with threadpool_limits(2, user_api="blas"):
        results = for_each(
            lambda i: (i * i, blas_threads()), range(20), 3, lambda *at: seen.append(at)
        )
        assert blas_threads() == {2}
    assert [square for square, _ in results] == [i * i for i in range(20)]
    assert {number for _, numbers in results for number in numbers} == {1}
    assert seen == [(i, 20) for i in range(1, 21)]


def test_after_a_failure_nothing_new_begins():
    begun = []

    def work(i):
        begun.append(i)
        if i == 0:
            raise ValueError("no")
        time.sleep(0.002)

    with pytest.raises(ValueError, match="no"):
        for_each(work, range(10_000), 2, None)
    assert len(begun) < 10_000


def test_no_torch_is_needed_for_the_processor(save_adapter, factors):
    loaded = "torch" in sys.modules
    analyze_adapter(save_adapter(factors(SHAPES)))
    assert ("torch" in sys.modules) == loaded


def test_another_device_needs_torch():
    if find_spec("torch"):
        pytest.skip("torch is installed")
    with pytest.raises(MissingExtraError, match=r"device is `cuda`.*install `retrain-squeeze"):
        linear_algebra_for("cuda")


@pytest.mark.parametrize("device", ["nonsense", "meta", "cuda:99"])
def test_a_device_that_is_not_there(device):
    pytest.importorskip("torch")
    with pytest.raises(SqueezeConfigError, match=f"device is `{device}`") as caught:
        linear_algebra_for(device)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.uint16])
@pytest.mark.parametrize(("rows", "columns"), SHAPES.values())
def test_torch_computes_the_same(dtype, rows, columns):
    pytest.importorskip("torch")
    torch_linear_algebra = pytest.importorskip(
        "retrain_squeeze.torch_linear_algebra"
    ).torch_linear_algebra
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((8, columns)), rng.standard_normal((rows, 8))
    if dtype is np.uint16:  # bits of bfloat16
        a, b = (x.astype(np.float32).view(np.uint32) >> 16 for x in (a, b))
    a, b = a.astype(dtype), b.astype(dtype)
    there, here = torch_linear_algebra("cpu"), linear_algebra_for("cpu")
    np.testing.assert_allclose(there.squares(a, b), here.squares(a, b), rtol=1e-9, atol=1e-9)
    for got, expected in zip(there.triangles(a, b), here.triangles(a, b), strict=True):
        np.testing.assert_allclose(got.T @ got, expected.T @ expected, rtol=1e-12, atol=1e-12)
