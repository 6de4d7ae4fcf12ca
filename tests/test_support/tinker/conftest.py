"""A Tinker service of our own, and the official SDK's clients on it."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import tinker
from tinker import types

from retrain_test_support.tinker.server import MODEL_NAME, TinkerServer

PATIENCE_S = 60


def _done(value):
    """What newer SDKs return as a future and older ones at once."""
    return value.result(timeout=PATIENCE_S) if hasattr(value, "result") else value


def _tensor(values, dtype):
    return types.TensorData.from_numpy(np.array(values, dtype))


def _datum(tokens, **inputs):
    """A datum that predicts each token from the one before it."""
    fields = {"target_tokens": _tensor(tokens[1:], np.int64)}
    fields |= {name: _tensor(values, np.float32) for name, values in inputs.items()}
    return types.Datum(model_input=types.ModelInput.from_ints(tokens[:-1]), loss_fn_inputs=fields)


def _logprobs(output):
    return [np.array(each["logprobs"].data) for each in output.loss_fn_outputs]


@pytest.fixture(scope="session")
def sdk():
    """Short names for what all tests need of the SDK."""
    return SimpleNamespace(
        types=types,
        done=_done,
        datum=_datum,
        logprobs=_logprobs,
        prompt=types.ModelInput.from_ints,
    )


@pytest.fixture
def server(request, tmp_path):
    """A server; a test may give the `config.json` of the model that is served."""
    config = getattr(request, "param", None)
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    with TinkerServer(None if config is None else tmp_path) as running:
        yield running


@pytest.fixture
def connect(server):
    """A function that opens a `ServiceClient`; all are closed at the end."""
    clients = []

    def connect(key="tml-any"):
        clients.append(tinker.ServiceClient(base_url=server.url, api_key=key))
        return clients[-1]

    yield connect
    for client in clients:
        if hasattr(client, "close"):
            _done(client.close("success"))


@pytest.fixture
def service(connect):
    return connect()


@pytest.fixture
def rest(server, service):
    if hasattr(tinker, "RestClient"):
        return tinker.RestClient(base_url=server.url, api_key="tml-any")
    return service.create_rest_client()


@pytest.fixture
def trainer(service):
    return _done(service.create_lora_training_client(base_model=MODEL_NAME, rank=4, seed=1))
