"""Conformance checks of backends, trackers and detectors, and `FakeBackend` to build on.

import pytest
from retrain_backends.testing import CHECKS, BackendCase

@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_my_backend_conforms(check, tmp_path):
    check(BackendCase(make=make_my_backend, directory=tmp_path))

A tracker is checked by `TRACKER_CHECKS` and a `TrackerCase` in the same way, a planning detector by
`DETECTOR_CHECKS` and a `DetectorCase`.
"""

from retrain_backends.fake import FakeBackend
from retrain_backends.group_sampling import GroupSampling
from retrain_backends.testing.case import BackendCase
from retrain_backends.testing.detectors import DETECTOR_CHECKS, DetectorCase
from retrain_backends.testing.suite import CHECKS
from retrain_backends.testing.trackers import TRACKER_CHECKS, TrackerCase

__all__ = [
    "CHECKS",
    "DETECTOR_CHECKS",
    "TRACKER_CHECKS",
    "BackendCase",
    "DetectorCase",
    "FakeBackend",
    "GroupSampling",
    "TrackerCase",
]
