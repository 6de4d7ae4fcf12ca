import io
import tarfile

import pytest

from retrain_squeeze.errors import DownloadError

pytest.importorskip("httpx")
from retrain_squeeze.download import download_adapter

SIGNATURE = "signature=hush"


def archive(**files):
    """A tar archive; `/` in a name is written `__`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name.replace("__", "/"))
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def fetch(server, tmp_path):
    """Download what the server has under these names."""
    directory = tmp_path / "adapter"
    directory.mkdir()

    def run(files):
        urls = {}
        for number, (name, content) in enumerate(files.items()):
            server.answers[f"/{number}"] = content
            urls[name] = f"{server.url}/{number}?{SIGNATURE}"
        return download_adapter(urls, directory)

    return run


def test_file_by_file(fetch, tmp_path):
    found = fetch({"adapter_config.json": b"{}", "adapter_model.safetensors": b"weights"})
    assert found == tmp_path / "adapter"
    assert (found / "adapter_model.safetensors").read_bytes() == b"weights"


def test_an_archive_with_a_folder(fetch, tmp_path):
    found = fetch(
        {
            "": archive(
                last__adapter_config=b"", last__more=b"", **{"last__adapter_config.json": b"{}"}
            )
        }
    )
    assert found == tmp_path / "adapter" / "last"
    assert not (tmp_path / "adapter" / "adapter.tar").exists()


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "..\\evil"])
def test_no_file_lands_outside(fetch, tmp_path, name):
    with pytest.raises(DownloadError, match="outside of the adapter"):
        fetch({name: b"x"})
    assert [path.name for path in tmp_path.rglob("*")] == ["adapter"]


@pytest.mark.parametrize("name", ["..__evil", "__evil"])
def test_no_member_of_an_archive_lands_outside(fetch, tmp_path, name):
    with pytest.raises(DownloadError, match="outside of the adapter"):
        fetch({"": archive(**{name: b"x"})})
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize(
    ("files", "line"),
    [
        ({"adapter_config.json": 403}, "adapter_config.json cannot be downloaded: the server "),
        ({"weights.age": b"x"}, r"adapter_config.json is missing \(received: weights.age\)"),
        ({}, r"adapter_config.json is missing \(received: no files\)"),
        ({"": b"no archive"}, "the archive of the adapter cannot be unpacked"),
    ],
)
def test_what_goes_wrong_is_one_line_without_the_signature(fetch, files, line):
    with pytest.raises(DownloadError, match=line) as told:
        fetch(files)
    assert "\n" not in str(told.value)
    assert SIGNATURE not in str(told.value)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "http://127.0.0.1:1/x?hush", "http://[/x"])
def test_an_address_that_cannot_be_asked(tmp_path, url):
    with pytest.raises(DownloadError, match="a cannot be downloaded") as told:
        download_adapter({"a": url}, tmp_path)
    assert "hush" not in str(told.value)
