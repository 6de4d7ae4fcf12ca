"""For authors of backends: `FakeBackend` to build on, and checks that every backend must pass.

import pytest
from retrain_backends.testing import CHECKS, BackendCase

@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_my_backend_conforms(check, tmp_path):
    check(BackendCase(make=make_my_backend, directory=tmp_path))
"""

from retrain_backends.fake import FakeBackend
from retrain_backends.group_sampling import GroupSampling
from retrain_backends.testing.case import BackendCase
from retrain_backends.testing.suite import CHECKS

__all__ = ["CHECKS", "BackendCase", "FakeBackend", "GroupSampling"]
