"""The files of an adapter from signed addresses into a directory of this machine."""

import tarfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import httpx

from retrain_squeeze.errors import DownloadError, describe

_CONFIG = "adapter_config.json"
_TIMEOUT = httpx.Timeout(30.0, read=120.0)  # between two pieces of a file


def download_adapter(urls: Mapping[str, str], directory: Path) -> Path:
    """Fetch the files of an adapter.

    Nothing is written outside `directory`, whatever the service calls its files, and no address
    gets into a message: its signature may open the file to everybody.

    Args:
      urls: where the files are, by their path in the adapter; "" is a tar archive of them all.
      directory: where they go.

    Returns:
      The directory in it that holds the adapter.

    Raises:
      DownloadError: a file cannot be fetched, or there is no adapter among them.
    """
    for name, url in urls.items():
        target = _safe_target(name or "adapter.tar", directory)
        target.parent.mkdir(parents=True, exist_ok=True)
        _fetch(url, target)
        if not name:
            _unpack(target, directory)
    found = min(directory.rglob(_CONFIG), default=None)
    if found is None:
        sent = sorted(str(f.relative_to(directory)) for f in directory.rglob("*") if f.is_file())
        raise DownloadError(
            f"what the service sent is no PEFT adapter: it has no {_CONFIG}"
            f" (it has {', '.join(sent[:5]) or 'no files'})"
        )
    return found.parent


def _safe_target(name: str, directory: Path) -> Path:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise DownloadError(f"the service names a file of the adapter `{name}`, outside of it")
    return directory / path


def _fetch(url: str, target: Path) -> None:
    # A border: the network, and somebody else's addresses.
    try:
        with (
            httpx.stream("GET", url, timeout=_TIMEOUT, follow_redirects=True) as answer,
            target.open("wb") as file,
        ):
            answer.raise_for_status()
            for piece in answer.iter_bytes():
                file.write(piece)
    except httpx.HTTPStatusError as error:
        raise DownloadError(
            f"{target.name} cannot be downloaded: the server answered {error.response.status_code}"
        ) from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        reason = describe(error).replace(url, "…")
        raise DownloadError(f"{target.name} cannot be downloaded ({reason})") from None


def _unpack(archive: Path, directory: Path) -> None:
    try:
        with tarfile.open(archive) as opened:
            opened.extractall(directory, filter="data")
    except tarfile.TarError as error:
        raise DownloadError(
            f"the archive of the adapter cannot be unpacked ({describe(error)})"
        ) from error
    archive.unlink()
