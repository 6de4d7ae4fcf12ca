import os

import pytest

from retrain_squeeze.errors import DownloadError, SqueezeConfigError

pytest.importorskip("tinker")
from retrain_squeeze.tinker_download import fetch_adapter

URLS = "/api/v1/training_runs/run/checkpoints/external_weights/last/external_weights_urls"


@pytest.fixture
def service(server):
    """As much of a Tinker service as the SDK asks before it fetches external weights."""
    server.answers["/"] = {}
    server.answers["/api/v1/client/config"] = {}
    return server


def test_external_weights_through_the_sdk(service, tmp_path):
    files = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"weights"}
    for name, content in files.items():
        service.answers[f"/files/{name}"] = content
    urls = {name: f"{service.url}/files/{name}?signature=hush" for name in files}
    service.answers[URLS] = {"urls": urls, "expires": "2099-01-01T00:00:00Z"}
    found = fetch_adapter("tinker://run/external_weights/last", service.url, tmp_path)
    assert {file.name: file.read_bytes() for file in found.iterdir()} == files


@pytest.mark.parametrize(
    ("status", "kind", "line"),
    [
        (404, SqueezeConfigError, "has no adapter tinker://run/external_weights/last (404)"),
        (401, SqueezeConfigError, "refuses the key (401); set TINKER_API_KEY to a valid one"),
        (
            422,
            DownloadError,
            "fetching tinker://run/external_weights/last: the service returned 422 ",
        ),
    ],
)
def test_what_the_service_refuses_is_one_line(service, tmp_path, status, kind, line):
    service.answers[URLS] = status
    with pytest.raises(kind) as caught:
        fetch_adapter("tinker://run/external_weights/last", service.url, tmp_path)
    assert str(caught.value).startswith(f"{service.url}")
    assert line in str(caught.value)


@pytest.mark.parametrize(
    "path", ["tinker://", "tinker://run", "tinker://run/other/x", "tinker://run/"]
)
def test_a_path_of_no_adapter(tmp_path, path):
    with pytest.raises(SqueezeConfigError, match="use tinker://RUN/weights/NAME"):
        fetch_adapter(path, "http://127.0.0.1:1", tmp_path)


def test_a_training_checkpoint_is_restored_and_exported(tmp_path):
    testing = pytest.importorskip("retrain_test_support.tinker.server")
    tinker = pytest.importorskip("tinker", minversion="0.36")
    with testing.TinkerServer(vocabulary=16) as service:
        client = tinker.ServiceClient(base_url=service.url, api_key="tml-any")
        trainer = client.create_lora_training_client(testing.MODEL_NAME, rank=4).result(30)
        path = trainer.save_state("last").result(30).path
        found = fetch_adapter(path, service.url, tmp_path)
        assert {"adapter_config.json", "adapter_model.safetensors"} <= {
            file.name for file in found.iterdir()
        }
        # What was exported for the download does not stay.
        assert service.executed("save_external_weights")
        assert service.executed("delete")

        with pytest.raises(DownloadError, match=r"nope/weights/x not found$"):
            fetch_adapter("tinker://nope/weights/x", service.url, tmp_path)
        sampler = trainer.save_weights_for_sampler("s").result(30).path
        for path in (sampler, sampler.replace("sampler_weights/", "")):
            with pytest.raises(
                SqueezeConfigError, match=r"^tinker.*cannot be downloaded with.*/s;"
            ):
                fetch_adapter(path, service.url, tmp_path)
        client.close("success").result(30)


def test_nothing_answers(tmp_path):
    with pytest.raises(DownloadError, match=r"^http://127.0.0.1:1 cannot be reached"):
        fetch_adapter("tinker://run/weights/last", "http://127.0.0.1:1/", tmp_path)


@pytest.mark.parametrize("key", ["hush", "tml-hush\u00fc", "tml-hu sh"])
def test_what_is_no_key_is_refused_and_not_shown(monkeypatch, tmp_path, key):
    monkeypatch.setenv("TINKER_API_KEY", key)
    with pytest.raises(SqueezeConfigError, match="keys begin with `tml-`") as caught:
        fetch_adapter("tinker://run/weights/last", "http://127.0.0.1:1", tmp_path)
    assert "hu" not in str(caught.value)


def test_space_around_a_key_is_left_out(monkeypatch, service, tmp_path):
    monkeypatch.setenv("TINKER_API_KEY", "tml-x\n")
    service.answers[URLS] = 404
    with pytest.raises(SqueezeConfigError, match="has no adapter"):
        fetch_adapter("tinker://run/external_weights/last", service.url, tmp_path)


def test_a_variable_that_is_no_address_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("TINKER_BASE_URL", "http://_:hush@localhost")
    with pytest.raises(SqueezeConfigError) as caught:
        fetch_adapter("tinker://run/weights/last", "", tmp_path)
    assert str(caught.value).startswith(
        "TINKER_BASE_URL is `http://...@localhost`; it must be an a"
    )


@pytest.mark.skipif("TINKER_API_KEY" in os.environ or "TINKER_BASE_URL" in os.environ, reason="set")
def test_no_key(tmp_path):
    with pytest.raises(SqueezeConfigError, match="needs a key: set TINKER_API_KEY, or base_url"):
        fetch_adapter("tinker://run/weights/last", "", tmp_path)
