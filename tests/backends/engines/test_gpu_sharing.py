import pytest

from retrain_backends.engines.gpu_sharing import Needs, share
from retrain_backends.errors import ConfigError

GB = 10**9
NEEDS = Needs(
    resident=9 * GB, step=20 * GB, weights=8 * GB, completion=GB // 4, completions=128
)  # a model of 4B parameters, with long completions


@pytest.mark.parametrize(
    ("memory", "sleeps", "used"),
    [
        (140 * GB, False, 42 * GB),  # the cache of a whole step
        (60 * GB, False, 28 * GB),  # what training leaves
        (48 * GB, True, 36.6 * GB),  # what the trainer leaves while nothing is trained
        (24 * GB, True, 13.8 * GB),
    ],
)
def test_an_engine_sleeps_only_if_both_do_not_fit(memory, sleeps, used):
    sharing = share(NEEDS, memory, "cuda:0")
    assert sharing.sleeps == sleeps
    assert sharing.utilization * memory == pytest.approx(used)


def test_the_reason_has_the_sizes():
    assert share(NEEDS, 140 * GB, "cuda:0").reason == (
        "sampling 18 GB and training 29 GB fit into the 140 GB of cuda:0"
    )
    assert share(NEEDS, 48 * GB, "cuda:0").reason == (
        "sampling 18 GB and training 29 GB do not fit into the 48 GB of cuda:0 together"
    )


def test_a_gpu_without_room_for_one_completion():
    with pytest.raises(ConfigError, match=r"^model\.model: cuda:0 has 20 GB, too little for the "):
        share(NEEDS, 20 * GB, "cuda:0")
