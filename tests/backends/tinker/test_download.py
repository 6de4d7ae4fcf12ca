import pytest

from retrain_backends.errors import RunError
from retrain_backends.tinker.download import download_adapter
from retrain_test_support.tinker.failures import RequestKind


@pytest.fixture
def policy(server, backend):
    """A backend that downloads, from a service that fails in nothing but downloads."""
    server.failures.kinds = frozenset({RequestKind.FILE})
    return backend({"backend.options": {"download_adapter": True}})


@pytest.mark.parametrize("status", [429, 502, 0])
def test_what_may_pass_is_tried_again(server, policy, tmp_path, status):
    server.failures.storm_status, server.failures.storm = status, 1
    assert policy.trainer.export_adapter(tmp_path) == str(tmp_path)
    assert server.failures.counts["storm"] == 1
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"adapter_config.json", "adapter_model.safetensors"}


def test_what_cannot_pass_is_told_with_its_path(server, policy, tmp_path):
    server.failures.storm_status, server.failures.storm = 403, 9
    line = rf"^{server.url}: tinker://.* cannot be downloaded \(403\); `retrain --resume` continues"
    with pytest.raises(RunError, match=line):
        policy.trainer.export_adapter(tmp_path)
    assert server.failures.counts["storm"] == 1
    assert not list(tmp_path.iterdir())


def test_it_is_not_tried_for_ever(server, tmp_path):
    server.failures.storm_status, server.failures.storm = 503, 9
    url = f"{server.url}/api/v1/files/a/b/c/d/e?signature=hush"
    with pytest.raises(
        RunError, match=r"adapter_config\.json cannot be downloaded \(503\)"
    ) as told:
        download_adapter({"adapter_config.json": url}, tmp_path, pauses_s=(0.0, 0.0))
    assert "hush" not in str(told.value)
    assert server.failures.counts["storm"] == 3
