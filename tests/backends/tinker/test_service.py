import numpy as np
import pytest

from retrain_backends.errors import RunError
from retrain_backends.tinker.address import find_address
from retrain_backends.tinker.options import TinkerOptions
from retrain_backends.tinker.service import Service
from retrain_test_support.tinker.server import MODEL_NAME, TinkerServer


@pytest.mark.slow
def test_a_server_that_has_died_is_named_and_the_call_ends_at_its_limit(caplog):
    with TinkerServer(vocabulary=32) as server:
        options = TinkerOptions(timeout_s=5.0)
        service = Service(find_address(server.url), options, check_s=0.1)
        trainer = service.new_trainer(MODEL_NAME, 4, seed=1)
    limit = (
        r"scoring: no answer in time \(backend.options.timeout_s\); `retrain --resume` continues"
    )
    with pytest.raises(RunError, match=limit):
        service.score(trainer, [np.array([1])], [np.array([2])])
    (line,) = (line for line in caplog.messages if line.startswith("waiting for"))
    assert line.startswith(f"waiting for {server.url} since ")
    assert "it does not answer (scoring)" in line
    service.close()
