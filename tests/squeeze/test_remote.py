import os
import subprocess
import sys

import pytest

from retrain_squeeze.errors import DownloadError, SqueezeConfigError

pytest.importorskip("tinker")
from retrain_squeeze.remote import fetch_adapter

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
        (401, SqueezeConfigError, "refuses the key (401); set TINKER_API_KEY to one that it takes"),
        (422, DownloadError, "fetching tinker://run/external_weights/last: it answered 422, "),
    ],
)
def test_what_the_service_refuses_is_one_line(service, tmp_path, status, kind, line):
    service.answers[URLS] = status
    with pytest.raises(kind) as told:
        fetch_adapter("tinker://run/external_weights/last", service.url, tmp_path)
    assert str(told.value).startswith(f"{service.url}")
    assert line in str(told.value)


@pytest.mark.parametrize("path", ["tinker://", "tinker://run", "tinker://run/other/x"])
def test_a_path_of_no_adapter(tmp_path, path):
    with pytest.raises(SqueezeConfigError, match="they look like tinker://RUN/weights/NAME"):
        fetch_adapter(path, "http://127.0.0.1:1", tmp_path)


def test_nothing_answers(tmp_path):
    with pytest.raises(DownloadError, match=r"^http://127.0.0.1:1 cannot be reached"):
        fetch_adapter("tinker://run/weights/last", "http://127.0.0.1:1/", tmp_path)


def test_no_key(tmp_path):
    code = (
        "from pathlib import Path; from retrain_squeeze.remote import fetch_adapter;"
        "fetch_adapter('tinker://run/weights/last', '', Path())"
    )
    kept = {key: value for key, value in os.environ.items() if not key.startswith("TINKER_")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=kept,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "a tinker:// adapter needs a key: set TINKER_API_KEY, or base_url" in done.stderr
