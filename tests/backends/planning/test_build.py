import numpy as np
import pytest

from retrain_backends.errors import PluginError
from retrain_backends.planning import planning_masks


class Detector:
    """Returns what it was given."""

    def __init__(self, *masks):
        self.given = masks

    def masks(self, _completions):
        return self.given


def test_masks_may_be_lists():
    masks = planning_masks(Detector([True, False], np.zeros(0, np.bool_)), [["a", "b"], []])
    assert [mask.tolist() for mask in masks] == [[True, False], []]


@pytest.mark.parametrize(
    "masks", [[], [[True]], [[1, 0]], [[True, False], [True, False]], [[[True, False]]], [None]]
)
def test_masks_that_do_not_fit_the_tokens(masks):
    with pytest.raises(PluginError, match=r"^planning.detector: `Detector.masks` must return one "):
        planning_masks(Detector(*masks), [["a", "b"]])
